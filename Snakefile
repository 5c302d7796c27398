# The whole pipeline. `snakemake --cores all reports/tables.tex` makes the tables of the study that `config` names.
# What a rule does is one `ntkcl` command; what is to be run, and with which settings, stands in params/.

import sys
from pathlib import Path

from snakemake.utils import min_version

from ntkcl import lock, warm
from ntkcl.adoption import adopt
from ntkcl.config import backbone_digest, dataset_digest, load_backbone, load_study, report_digest, resolve, runs_of
from ntkcl.errors import UserError, nearest

min_version("9.0")


container: None


config.setdefault("study", "quickstart")
config.setdefault("device", "auto")  # or cpu, cuda: where the jobs compute
try:
    for key in config.keys() - {"study", "device"}:
        raise UserError(f"unknown configuration '{key}' (--config); {nearest(key, ('study', 'device'))}")
    study = load_study(config["study"])
    runs = runs_of(study)
    if "--touch" not in sys.argv and (done := adopt(config["study"])):
        print(done, file=sys.stderr)
except UserError as error:
    sys.exit(f"error: {error}")


onstart:
    try:
        lock.hold(Path(".snakemake/running"))
    except UserError as error:
        sys.exit(f"error: {error}")
    # Most jobs are short, and importing torch and timm takes seconds: local jobs fork from a process that has done it.
    if workflow.executor_plugin.common_settings.local_exec:
        warm.start()


wildcard_constraints:
    dataset=r"[a-z0-9_]+",
    backbone=r"[a-z0-9_]+",
    variant=r"[a-z0-9_]+(/[a-z0-9_]+)?",
    seed=r"\d+",
    task=r"\d+",


localrules:
    all,
    data,
    backbones,
    runs,


rule all:
    input:
        multiext("reports/tables", ".tex", ".md"),
        multiext("reports/figures/accuracy", ".pdf", ".png"),
        [run.folder / "predictions.csv.gz" for run in runs],


rule data:
    input:
        [f"data/{name}/manifest.csv" for name in study.datasets],
        [f"data/{load_backbone(name).pretraining.dataset}/manifest.csv" for name in study.backbones],


rule backbones:
    input:
        [f"backbones/{name}.safetensors" for name in study.backbones],


rule runs:
    input:
        [run.folder / "wandb" for run in runs],


include: "workflow/rules/data.smk"
include: "workflow/rules/backbones.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/report.smk"
