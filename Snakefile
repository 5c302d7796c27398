# The whole pipeline. `snakemake --cores all reports/tables.tex` makes the tables of the study that `config` names.
# What a rule does is one `ntkcl` command; what is to be run, and with which settings, stands in params/.

import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import min_version

from ntkcl import warm
from ntkcl.adoption import RECORDS
from ntkcl.config import backbone_digest, dataset_digest, load_backbone, load_dataset, load_study, resolve, runs_of
from ntkcl.errors import UserError

min_version("9.0")


container: None


study_name = config.setdefault("study", "quickstart")
try:
    study = load_study(study_name)
    runs = runs_of(study)
except UserError as error:
    sys.exit(f"error: {error}")

if Path("reports/metrics.json").exists() and not RECORDS.exists() and "--touch" not in sys.argv:
    sys.exit(
        "error: results are here, but Snakemake has no record of them (after `dvc pull`?); "
        f"run `ntkcl adopt {study_name}` to take them up, or delete reports/ and runs/ to start anew"
    )


# Most jobs are short, and importing torch and timm takes seconds: local jobs fork from a process that has done it.
onstart:
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
        "reports/tables.tex",


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
