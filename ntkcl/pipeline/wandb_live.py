"""Curves of runs that are still training on Weights & Biases.

Training writes points to its files (`ntkcl.training.progress_points`) and knows nothing of W&B. A process beside it, on
the machine where the pipeline was started, uploads them every minute as offline runs, each with the identity that the
finished run will have: W&B then shows one run, which grows over all its tasks and all its jobs.
"""

import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from subprocess import STDOUT, Popen
from tempfile import TemporaryDirectory

from ntkcl.errors import UserError
from ntkcl.pipeline import wandb_log, wandb_upload
from ntkcl.runs import resolve

LOG = Path("reports/logs/wandb_live.log")


def start() -> None:
    """Let a process upload the curves below `runs/` until this one ends, if there may be a key for W&B.

    This process does not import wandb, which can fail and starts a service; the other one looks closer.
    """
    mode = os.environ.get("WANDB_MODE")
    if not (wandb_upload.has_keys() and wandb_log.UPLOADING_MODES.get(mode, True)):
        return
    LOG.parent.mkdir(parents=True, exist_ok=True)
    with LOG.open("w") as log:
        command = [sys.executable, "-m", "ntkcl", "log-wandb", "--live", "runs", "--parent", str(os.getpid())]
        Popen(command, stdout=log, stderr=STDOUT, start_new_session=True)  # Ctrl-C is for the jobs


def follow(folders: list[Path], pause: float, parent: int | None = None) -> None:
    """Upload the curves of all runs below `folders` that have not finished, whenever they have grown.

    Without network, it says so and tries again.

    Args:
        folders: where to look for `task<t>/progress.csv`.
        pause: seconds between two uploads.
        parent: it ends when this process, which started it, has ended; None: it does not end by itself.

    Raises:
        UserError: nothing is uploaded here, or W&B refuses its settings.
    """
    sent, last = _points(folders), None
    with wandb_log.quiet_wandb():
        if not wandb_log.uploads():
            raise UserError(
                "nothing is uploaded to W&B here: `wandb login` first, and do not set WANDB_MODE to offline"
            )
        print(f"uploading curves of runs that train in {', '.join(map(str, folders))}", flush=True)
        while parent in (None, os.getppid()):
            grown = {run: time for run, time in _points(folders).items() if sent.get(run) != time}
            try:
                problem = _upload(list(grown)) if grown else last
            except OSError as error:  # as a full disk
                problem = str(error)
            if not problem:
                sent |= grown
            elif problem != last:
                print(f"warning: curves are not uploaded to W&B ({problem}); training goes on", file=sys.stderr)
            last = problem
            for _ in range(int(10 * pause)):
                if parent in (None, os.getppid()):
                    time.sleep(0.1)


def _points(folders: list[Path]) -> dict[Path, float]:
    """The folders of runs that have points, finished or not, with the time of the last point."""
    times: dict[Path, float] = {}
    for folder in folders:
        with suppress(OSError):  # a folder that vanishes while it is looked at; a minute later it is looked at again
            for path in folder.rglob("task*/progress.csv"):
                run = path.parent.parent
                times[run] = max(times.get(run, 0.0), path.stat().st_mtime)
    return times


def _upload(runs: list[Path]) -> str | None:
    """Upload the curves of `runs`; return what went wrong. A run that cannot be written is named and left out."""
    offline = []
    with wandb_log.alone(), TemporaryDirectory(prefix="ntkcl-wandb-") as folder:
        for run in (run for run in runs if not (run / "metrics.json").exists()):
            try:
                offline.append(_written(run, Path(folder, str(len(offline)))))
            except (UserError, ValueError) as error:
                print(f"warning: the curves of {run} are not uploaded to W&B: {error}", file=sys.stderr)
        return wandb_upload.upload(offline)


def _written(run: Path, folder: Path) -> Path:
    """Write the curves of `run` as an offline run in the new `folder`."""
    dataset, backbone, *variant, seed = run.parts[len(run.parts) - run.parts[::-1].index("runs") :]
    resolved = resolve(dataset, backbone, "/".join(variant), int(seed.removeprefix("seed")))
    content = {"run": resolved.describe(), "digest": resolved.digest, "provenance": []}
    rows = list(wandb_log.point_rows(run, len(resolved.tasks)))
    return wandb_log.write_offline(folder, wandb_log.identity(run, content), rows, {})
