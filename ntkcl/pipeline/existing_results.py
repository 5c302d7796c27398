"""Results that Snakemake did not compute in this folder, as after `dvc pull`: current ones are kept, others redone."""

import os
import subprocess
import sys
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from ntkcl.errors import UserError
from ntkcl.reporting.digest import report_digest
from ntkcl.runs import Run, runs_of
from ntkcl.settings.files import load_study
from ntkcl.storage.files import read_json
from ntkcl.storage.tensor_bytes import metadata_of

REPORTS = [Path("reports") / name for name in ("metrics.json", "figures/accuracy.pdf", "tables.tex")]
# Snakemake's command line without its pause of a tenth of a second a job, which is half an hour for a large study
TOUCH_COMMAND = (
    "from snakemake import cli; from snakemake.executors import touch; touch.Executor.SLEEPING_TIME = 0; cli.main()"
)
EVALUATED = ("metrics.json", "predictions.csv.gz")
CLOCK_SECONDS = 2.0  # that clocks may differ
OUTDATED_SECONDS = 946_684_800  # 2000-01-01, older than any result; a time of 0 does not make Snakemake rerun


def set_back_future_times(runs: list[Run]) -> None:
    """Give files with a time in the future, as from a machine whose clock is ahead, the present one, and say so.

    Snakemake deletes the outputs of a job whose inputs are newer: what was computed would be lost, at every try.
    """
    now = time.time()
    folders = {Path("data") / run.dataset_name for run in runs} | {run.folder for run in runs}
    folders |= {run.folder.parent for run in runs} | {Path("backbones"), Path("reports")}
    ahead = [path for folder in folders for path in _files(folder) if path.stat().st_mtime > now + CLOCK_SECONDS]
    for path in ahead:
        os.utime(path, (now, now))
    if ahead:
        others = f" and {len(ahead) - 1} more files" if len(ahead) > 1 else ""
        print(f"the time of {ahead[0]}{others} was in the future; it is now the present one", file=sys.stderr)


def _files(folder: Path) -> Iterator[Path]:
    """The files in a folder and, of a run, in the folders of its tasks."""
    for entry in os.scandir(folder) if folder.is_dir() else ():
        if entry.is_file():
            yield Path(entry.path)
        elif entry.name.startswith("task"):
            yield from _files(Path(entry.path))


def mark_up_to_date(study: str) -> str:
    """Make Snakemake regard current results of `study` that it has no record of as its own.

    Snakemake judges by file times and by its records of parameters; after `dvc pull` neither fits. Runs whose digest is
    that of the current settings are recorded as done. The others get the oldest possible time, so that they are rerun.
    So do metrics whose predictions are missing.

    Returns:
        A message for the user, empty if all results are known already.

    Raises:
        UserError: Snakemake cannot record the results.
    """
    runs = runs_of(load_study(study))
    incomplete = [run for run in runs if not all((run.folder / name).exists() for name in EVALUATED)]
    for run in incomplete:  # Snakemake does not look at predictions once the metrics exist
        _outdate(run.folder / "metrics.json")
    unknown = [run for run in runs if not _is_known(run.folder / "metrics.json")]
    states = [str(path) for run in incomplete for path in _states(run)]
    if not unknown:
        if states:  # of runs that are to be evaluated again
            _record(study, states)
        return ""
    current = [run for run in unknown if _is_of(run.folder / "metrics.json", run)]
    targets = [run.folder / "metrics.json" for run in current]
    targets += [path for run in current if _is_of(path := run.folder / "kernel.json", run)]
    targets += _wandb_logs(runs, current)
    if len(current) == len(runs) and _report_is_of(study, runs):
        targets += [path for path in REPORTS if path.exists()]
    else:
        _outdate(*REPORTS)
    current_folders = {run.folder for run in current}
    for run in unknown:
        if run.folder not in current_folders:
            _outdate(*run.folder.rglob("*"))
    if targets or states:
        _record(study, [*map(str, targets), *states])
    outdated = len(unknown) - len(current)
    return f"found results of {len(current)} of {len(runs)} runs; {outdated} more have other settings and are redone"


def _is_known(path: Path) -> bool:
    """Return whether `path` does not exist, Snakemake has a record of it, or it was marked as outdated before."""
    if not path.exists() or path.stat().st_mtime == OUTDATED_SECONDS:
        return True
    name = urlsafe_b64encode(str(path).encode()).decode()  # as Snakemake names its records
    return any((Path(".snakemake") / kind / name).exists() for kind in ("metadata", "incomplete"))


def _is_of(path: Path, run: Run) -> bool:
    """Return whether the file exists and has the digest of the run's current settings."""
    return path.exists() and read_json(path)["digest"] == run.digest


def _states(run: Run) -> list[Path]:
    """The states of a run that Snakemake has no record of, and that have the digest of its current settings."""
    paths = [run.state_path(task.index) for task in run.tasks]
    return [path for path in paths if not _is_known(path) and _has_digest(path, run.digest)]


def _has_digest(path: Path, digest: str) -> bool:
    try:
        return metadata_of(path).get("digest") == digest
    except (ValueError, AttributeError, OSError):
        return False


def _wandb_logs(runs: list[Run], current: list[Run]) -> list[Path]:
    """The files that show that all seeds of a variant are logged to W&B, of variants whose runs are all `current`."""
    folders = {run.folder for run in current}
    groups = groupby(runs, key=lambda run: run.folder.parent)  # seeds vary fastest in `runs`
    paths = [parent / "wandb.done" for parent, group in groups if all(run.folder in folders for run in group)]
    return [path for path in paths if path.exists()]


def _record(study: str, targets: list[str]) -> None:
    # nothing is computed: with as many "cores" and without GPUs, Snakemake chooses jobs by the hundred, not one by one
    arguments = ["--touch", "--forceall", "--cores", "1000", "--quiet", "all"]
    arguments += ["--config", f"study={study}", "device=cpu"]
    command = [sys.executable, "-c", TOUCH_COMMAND, *arguments, "--", *targets]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        reason = " ".join(done.stderr.split())[-200:]
        raise UserError(f"Snakemake cannot record the results in runs/ ({reason}); delete them")


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
            os.utime(path, (OUTDATED_SECONDS, OUTDATED_SECONDS))
