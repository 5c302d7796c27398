"""Study, runs and GPUs of a pipeline, which the Snakefile needs for its rules; what happens when its jobs start."""

import io
import os
import re
import sys
from argparse import Namespace
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ntkcl.devices import gpus
from ntkcl.errors import UserError, nearest
from ntkcl.pipeline import cost, fork_server, slurm, wandb_live
from ntkcl.pipeline.existing_results import mark_up_to_date, set_back_future_times
from ntkcl.pipeline.progress_lines import print_finished_jobs, show_existing_logs_only
from ntkcl.runs import Run, runs_of
from ntkcl.settings.files import all_names, load_study
from ntkcl.settings.studies import Study
from ntkcl.storage.files import read_json
from ntkcl.storage.lock import lock_until_exit, locked

DEFAULTS = {
    "study": "quickstart",
    "device": "auto",  # or cpu, cuda: where the jobs compute
    "jobs_per_gpu": 1,
    "gpus_per_job": 1,  # of training and evaluation: the images of a batch are divided among them
}
RUN_NO_JOBS = (  # options of Snakemake
    *("dryrun", "touch", "summary", "detailed_summary", "dag", "rulegraph", "filegraph", "d3dag", "list_rules"),
    *("list_target_rules", "list_input_changes", "list_params_changes", "list_untracked", "lint", "report", "archive"),
    *("unlock", "cleanup_metadata", "delete_all_output", "delete_temp_output", "containerize", "print_compilation"),
)
RUNNING = Path(".snakemake/running")  # locked while a pipeline runs
FORK_SERVER_MODULE = "ntkcl.commands.entry"


@dataclass(frozen=True)
class Pipeline:
    """The study that Snakemake runs, and its resources.

    Args:
        study: the study.
        runs: all its runs.
        uses_gpu: whether jobs that compute take GPUs.
        gpus_each: number of GPUs of a job of training or evaluation.
        threads_each: number of CPU threads of a job that computes.
        only_touches: Snakemake only updates its records (`--touch`).
        uses_slurm: jobs are submitted to Slurm.
        name: name of the study.
    """

    study: Study
    runs: list[Run]
    uses_gpu: bool
    gpus_each: int
    threads_each: int
    only_touches: bool
    uses_slurm: bool
    name: str

    @property
    def measured(self) -> list[Run]:
        """The runs whose kernels are measured."""
        return [run for run in self.runs if run.variant in self.study.measured]

    @property
    def logs_to_wandb(self) -> bool:
        """Whether finished runs are logged to W&B; if not, nothing says later that they were."""
        return os.environ.get("WANDB_MODE") != "disabled"

    @property
    def command(self) -> str:
        """The command that starts training and evaluation."""
        several = f"torchrun --standalone --nproc-per-node {self.gpus_each} -m ntkcl"
        return several if self.gpus_each > 1 else "ntkcl"

    def start(self, workflow: Any) -> None:
        """Lock the folder, and print the cost of the planned jobs.

        Raises:
            UserError: another pipeline runs in this folder, or the cluster's nodes cannot run the jobs.
        """
        lock_until_exit(RUNNING)
        if self.only_touches:
            return
        jobs = list(workflow.dag.needrun_jobs())
        if self.uses_slurm:
            slurm.check_that_jobs_fit(jobs)
            slurm.use_squeue_without_accounting(workflow)
        print(cost.summary(self.name, [(job.rule.name, job.wildcards) for job in jobs]), file=sys.stderr)
        if self.logs_to_wandb and any(job.rule.name == "train_task" for job in jobs):
            wandb_live.start()
        show_existing_logs_only()
        if not sys.stderr.isatty():
            print_finished_jobs()


def prepare(workflow: Any, config: dict[str, Any]) -> Pipeline:
    """Validate the configuration and the study, and record existing results.

    Args:
        workflow: Snakemake's; it gets the resource "gpu".
        config: Snakemake's; it gets the defaults, and `about` for the texts of the report.

    Raises:
        UserError: a setting is wrong.
    """
    for key in config.keys() - DEFAULTS.keys():
        raise UserError(f"unknown configuration '{key}' (--config); {nearest(key, DEFAULTS)}")
    for key, value in DEFAULTS.items():
        config.setdefault(key, value)
    starts_jobs = workflow.is_main_process  # a job on a cluster's node reads the Snakefile too
    arguments = _arguments()
    is_local = starts_jobs and arguments.executor in (None, "local", "dryrun", "touch")
    runs_jobs = (arguments.cores or arguments.jobs) and not any(getattr(arguments, name) for name in RUN_NO_JOBS)
    if starts_jobs:
        _check_writable(Path())
    uses_slurm = starts_jobs and runs_jobs and arguments.executor == "slurm"
    if uses_slurm:
        with locked(RUNNING):  # jobs of a pipeline that still runs are no earlier ones
            slurm.wait_for_earlier_jobs(Path.cwd())
    if is_local and runs_jobs:
        fork_server.start(FORK_SERVER_MODULE)  # early: its imports take seconds, and so does planning
    os.environ[gpus.JOBS_PER_GPU] = str(config["jobs_per_gpu"])  # for the jobs
    jobs_per_gpu, uses_gpu = gpus.jobs_per_gpu(), gpus.use_gpus(config["device"], is_local)
    gpus_each, threads_each = gpus.per_job(config["gpus_per_job"], uses_gpu), 1
    if is_local and uses_gpu:
        if "gpu" not in workflow.global_resources:  # else --resources gpu=N was given
            workflow.register_resource("gpu", len(gpus.visible()) * jobs_per_gpu)
        available = workflow.global_resources["gpu"].value
        if gpus_each > available:
            raise UserError(f"gpus_per_job is {gpus_each}, and there are {available}; give a smaller number")
        threads_each = gpus.threads_each(workflow.resource_settings.cores or 1, available)
    config["study"] = _named(config["study"])
    study = load_study(config["study"])
    runs = runs_of(study)
    if starts_jobs and not (arguments.dryrun or arguments.touch):
        set_back_future_times(runs)
    if starts_jobs and not arguments.touch and (message := mark_up_to_date(config["study"])):
        print(message, file=sys.stderr)
    config["about"] = _about(config["study"], study)
    return Pipeline(study, runs, uses_gpu, gpus_each, threads_each, arguments.touch, uses_slurm, config["study"])


def _check_writable(folder: Path) -> None:
    if not os.access(folder, os.W_OK):
        raise UserError(
            f"cannot write into {folder.resolve()}: it is read-only or belongs to another user; start from a copy of "
            "your own"
        )


def _named(study: Any) -> str:
    """The name of a study, of which Snakemake has made a number or a truth value, as of 2024_01 or 1e3.

    Raises:
        UserError: several studies have a name that it reads as this value.
    """
    if isinstance(study, str):
        return study
    names = [name for name in all_names("studies") if repr(_as_snakemake_reads(name)) == repr(study)]
    if len(names) > 1:
        raise UserError(f"Snakemake reads each of the studies {', '.join(names)} as {study}; rename all but one")
    return names[0] if names else str(study)


def _as_snakemake_reads(name: str) -> Any:
    for kind in (int, float):
        with suppress(ValueError):
            return kind(name)
    return {"True": True, "False": False}.get(name, name)


def _arguments() -> Namespace:
    """Return Snakemake's arguments. The workflow knows its executor only after the Snakefile has been read."""
    from snakemake.cli import parse_args

    with redirect_stderr(io.StringIO()):  # it would print a second time which profiles it uses
        return parse_args(sys.argv[1:])[1]


def _about(name: str, study: Study) -> dict[str, Any]:
    """Title, seeds and provenance of the study, for `workflow/report/report.rst`."""
    path = Path("reports/metrics.json")
    content = read_json(path) if path.exists() else {}
    provenance = content.get("provenance") if content.get("study") == name else None
    title = re.sub(r"([\\`*_|<>:\[\]])", r"\\\1", study.title)  # of reStructuredText
    return {"title": title, "seeds": ", ".join(map(str, study.seeds)), "provenance": provenance}
