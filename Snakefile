# The whole pipeline. `snakemake --cores all reports/tables.tex` writes the tables of the study that `config` names.
# `snakemake --report reports/report.html` then shows them in one file for a browser. Each rule is one `ntkcl` command;
# the runs and their settings are in params/.

import sys

from snakemake.utils import min_version

from ntkcl.backbones.digest import backbone_digest
from ntkcl.data.sources.common.options import dataset_digest
from ntkcl.errors import UserError
from ntkcl.pipeline import cost, setup, slurm
from ntkcl.pipeline.browser_report import report_arguments
from ntkcl.reporting.digest import report_digest
from ntkcl.reporting.figures.figure import figures_from
from ntkcl.runs import resolve
from ntkcl.settings.files import load_backbone, load_dataset, read_backbones
from ntkcl.settings.variants import VARIANT_PATTERN

min_version("9.0")


report: "workflow/report/report.rst"


container: None


try:
    pipeline = setup.prepare(workflow, config)
except UserError as error:
    sys.exit(f"error: {error}")

study, runs, measured = pipeline.study, pipeline.runs, pipeline.measured
uses_gpu, gpus_each, threads_each = pipeline.uses_gpu, pipeline.gpus_each, pipeline.threads_each
NTKCL = pipeline.command  # starts training and evaluation
# The first line of a log: on a full disk there is room for an error in the block that it takes. Before another try,
# Snakemake deletes the log; that of a job of Slurm has a second name.
HEADING = """echo "--- $(date '+%F %T') on $(hostname)${SLURM_JOB_ID:+, job $SLURM_JOB_ID of Slurm}"; \
LOG=$(readlink /proc/$$/fd/1); [ -z "${SLURM_JOB_ID:-}" ] || ln -f "$LOG" "$LOG.job$SLURM_JOB_ID" || true"""
metrics_figures = figures_from("metrics", published=bool(study.tables))
analysis_figures = figures_from("analysis") if study.reference else {}
figures = metrics_figures | analysis_figures
browser_report = report_arguments(config["study"], study, figures)
wandb_logs = sorted({run.folder.parent / "wandb.done" for run in runs if pipeline.logs_to_wandb})
analysis_tables = multiext("reports/analysis", ".tex", ".md", ".html") if study.reference else []


onstart:
    try:
        pipeline.start(workflow)
    except UserError as error:
        sys.exit(f"error: {error}")


wildcard_constraints:
    dataset=r"[a-z0-9_]+",
    backbone=r"[a-z0-9_]+",
    variant=VARIANT_PATTERN,
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
    log_wandb,


rule all:
    input:
        multiext("reports/tables", ".tex", ".md", ".html"),
        analysis_tables,
        [multiext(f"reports/figures/{name}", ".pdf", ".png") for name in figures],
        [run.folder / "predictions.csv.gz" for run in runs],


rule data:
    input:
        [f"data/{name}/manifest.csv" for name in study.datasets],
        [
            f"data/{backbone.pretraining.dataset}/manifest.csv"
            for backbone in map(load_backbone, study.backbones)
            if backbone.is_pretrained_here
        ],


rule backbones:
    input:
        [f"backbones/{name}.safetensors" for name in study.backbones],


rule runs:
    input:
        wandb_logs,
        [run.folder / "kernel.json" for run in measured],


include: "workflow/rules/targets.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/backbones.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/analyze.smk"
