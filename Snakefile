# The whole pipeline. `snakemake --cores all reports/tables.tex` makes the tables of the study that `config` names.
# `snakemake --report reports/report.html` then shows them in one file for a browser. What a rule does is one `ntkcl`
# command; what is to be run, and with which settings, stands in params/.

import io
import os
import sys
from contextlib import redirect_stderr
from pathlib import Path

from snakemake.cli import parse_args
from snakemake.utils import min_version

from ntkcl import gpus, lock, warm
from ntkcl.adoption import adopt
from ntkcl.config import (
    backbone_digest,
    dataset_digest,
    load_backbone,
    load_dataset,
    load_study,
    report_digest,
    resolve,
    runs_of,
)
from ntkcl.errors import UserError, nearest
from ntkcl.files import read_json
from ntkcl.planning import cost
from ntkcl.reporting.figures import ANALYSIS_FIGURES, FIGURES, PUBLISHED_FIGURES

min_version("9.0")


report: "reports/report.rst"


container: None


DEFAULTS = {
    "study": "quickstart",
    "device": "auto",  # or cpu, cuda: where the jobs compute
    "jobs_per_gpu": 1,
    "gpus_per_job": 1,  # of training and evaluation: they share out the images of a batch
}


def submits():
    """Whether the executor asked for computes elsewhere. Snakemake knows it only when it has read this file."""
    with redirect_stderr(io.StringIO()):  # it would say a second time which profiles it uses
        executor = parse_args(sys.argv[1:])[1].executor
    return executor not in (None, "local", "dryrun", "touch")


def about(study):
    """What the texts in reports/ say of the study: they know it as `snakemake.config.about`."""
    path = Path("reports/metrics.json")
    content = read_json(path) if path.exists() else {}
    made = content["provenance"] if content.get("study") == config["study"] else {}
    return {"title": study.title, "seeds": ", ".join(map(str, study.seeds)), "made": made}


starts_jobs = workflow.is_main_process  # a job on a cluster's node reads this file too
here = starts_jobs and not submits()  # it starts them on this machine
touches = "--touch" in sys.argv
threads_each = 1  # of a job that computes
try:
    for key in config.keys() - DEFAULTS.keys():
        raise UserError(f"unknown configuration '{key}' (--config); {nearest(key, DEFAULTS)}")
    for key, value in DEFAULTS.items():
        config.setdefault(key, value)
    os.environ[gpus.JOBS_PER_GPU] = str(config["jobs_per_gpu"])  # for the jobs
    jobs_per_gpu, uses_gpu = gpus.jobs_per_gpu(), gpus.wanted(config["device"], here)
    gpus_each = gpus.per_job(config["gpus_per_job"], uses_gpu)
    if here and uses_gpu:
        if "gpu" not in workflow.global_resources:  # else a person has given --resources gpu=N
            workflow.register_resource("gpu", len(gpus.visible()) * jobs_per_gpu)
        most = workflow.global_resources["gpu"].value
        if gpus_each > most:
            raise UserError(f"gpus_per_job is {gpus_each}, and there are {most}; give a smaller number")
        threads_each = gpus.threads_each(workflow.resource_settings.cores or 1, most)
    study = load_study(config["study"])
    runs = runs_of(study)
    if starts_jobs and not touches and (done := adopt(config["study"])):
        print(done, file=sys.stderr)
    config["about"] = about(study)
except UserError as error:
    sys.exit(f"error: {error}")


measured = [run for run in runs if run.variant in study.measured]  # whose kernels are
metric_figures = FIGURES + (PUBLISHED_FIGURES if study.tables else ())
analysis_figures = ANALYSIS_FIGURES if study.reference else ()
analysis_tables = multiext("reports/analysis", ".tex", ".md", ".html") if study.reference else []

# what starts training and evaluation
NTKCL = f"torchrun --standalone --nproc-per-node {gpus_each} -m ntkcl" if gpus_each > 1 else "ntkcl"


onstart:
    try:
        lock.hold(Path(".snakemake/running"))
    except UserError as error:
        sys.exit(f"error: {error}")
    if not touches:
        planned = [(job.rule.name, job.wildcards) for job in workflow.dag.needrun_jobs()]
        print(cost.summary(config["study"], planned), file=sys.stderr)
    # Most jobs are short, and importing torch and timm takes seconds: local jobs fork from a process that has done it.
    if here and not touches:
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
    aggregate,
    figures,
    tables,
    fetch_data,
    fetch_backbone,
    track_run,


rule all:
    input:
        multiext("reports/tables", ".tex", ".md", ".html"),
        analysis_tables,
        [multiext(f"reports/figures/{name}", ".pdf", ".png") for name in metric_figures + analysis_figures],
        [run.folder / "predictions.csv.gz" for run in runs],


rule data:
    input:
        [f"data/{name}/manifest.csv" for name in study.datasets],
        [
            f"data/{pretraining.dataset}/manifest.csv"
            for name in study.backbones
            if (pretraining := load_backbone(name).pretraining)
        ],


rule backbones:
    input:
        [f"backbones/{name}.safetensors" for name in study.backbones],


rule runs:
    input:
        [run.folder / "wandb" for run in runs],
        [run.folder / "kernel.json" for run in measured],


include: "workflow/rules/targets.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/backbones.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/analyze.smk"
