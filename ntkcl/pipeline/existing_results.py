"""Taking up results that were computed elsewhere, so that nothing is recomputed and nothing outdated is kept."""

import os
import subprocess
import sys
from base64 import urlsafe_b64encode
from pathlib import Path

from ntkcl.errors import UserError
from ntkcl.reporting.digest import report_digest
from ntkcl.runs import Run, runs_of
from ntkcl.settings.files import load_study
from ntkcl.storage.files import read_json

REPORTS = [Path("reports") / name for name in ("metrics.json", "figures/accuracy.pdf", "tables.tex")]
# Snakemake's command line without its pause of a tenth of a second a job, which is half an hour for a large study
TOUCH = "from snakemake import cli; from snakemake.executors import touch; touch.Executor.SLEEPING_TIME = 0; cli.main()"
LONG_AGO = 946_684_800  # 2000-01-01, older than any result; a time of 0 does not make Snakemake rerun


def mark_up_to_date(study: str) -> str:
    """Make Snakemake regard present results of `study` that it did not make as its own.

    Snakemake judges by file times and by its records of parameters; after `dvc pull` neither fits. Runs whose digest is
    that of the present settings are recorded as done. The others get the oldest possible time, so that they are rerun.

    Returns:
        What was done, for people; nothing if there was nothing to do.

    Raises:
        UserError: Snakemake cannot record the results.
    """
    runs = runs_of(load_study(study))
    strange = [run for run in runs if not _is_known(run.folder / "metrics.json")]
    if not strange:
        return ""
    fresh = [run for run in strange if _is_of(run.folder / "metrics.json", run)]
    targets = [str(run.folder / "wandb") for run in fresh if (run.folder / "wandb").exists()]
    targets += [str(path) for run in fresh if _is_of(path := run.folder / "kernel.json", run)]
    if len(fresh) == len(runs) and _report_is_of(study, runs):
        targets += [str(path) for path in REPORTS if path.exists()]
    else:
        _outdate(*REPORTS)
    for run in strange:
        if run not in fresh:
            _outdate(*run.folder.rglob("*"))
    if targets:
        _record(study, targets)
    return (
        f"took up {len(fresh)} of {len(runs)} runs that came from elsewhere; {len(strange) - len(fresh)} are outdated"
    )


def _is_known(path: Path) -> bool:
    """Whether `path` does not exist, or Snakemake has a record of it, or it was marked as outdated before."""
    if not path.exists() or path.stat().st_mtime == LONG_AGO:
        return True
    name = urlsafe_b64encode(str(path).encode()).decode()  # as Snakemake names its records
    return any((Path(".snakemake") / kind / name).exists() for kind in ("metadata", "incomplete"))


def _is_of(path: Path, run: Run) -> bool:
    """Whether the file is there and was made with the run's present settings."""
    return path.exists() and read_json(path)["digest"] == run.digest


def _record(study: str, targets: list[str]) -> None:
    # nothing is computed: with as many "cores" and without GPUs, Snakemake chooses jobs by the hundred, not one by one
    arguments = ["--touch", "--forceall", "--cores", "1000", "--quiet", "all"]
    arguments += ["--config", f"study={study}", "device=cpu"]
    done = subprocess.run([sys.executable, "-c", TOUCH, *arguments, "--", *targets], capture_output=True, text=True)
    if done.returncode:
        reason = " ".join(done.stderr.split())[-200:]
        raise UserError(f"Snakemake cannot take up the results in runs/ ({reason}); delete them")


def _report_is_of(study: str, runs: list[Run]) -> bool:
    if not REPORTS[0].exists():
        return False
    report = read_json(REPORTS[0])
    shown = [run.digest for run in runs if run.variant in load_study(study).table_variants]
    present = [run["digest"] for run in report["runs"]] == shown
    return present and report.get("report_digest") == report_digest(load_study(study))


def _outdate(*paths: Path) -> None:
    for path in paths:
        if path.exists():
            os.utime(path, (LONG_AGO, LONG_AGO))
