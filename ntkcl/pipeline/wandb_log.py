"""Finished runs on Weights & Biases, from their files alone.

A run is first written offline into its own folder. If you are logged in, it is then uploaded from there
(`ntkcl.pipeline.wandb_upload`).
"""

import csv
import math
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ntkcl.errors import UserError, nearest
from ntkcl.pipeline import wandb_upload
from ntkcl.progress import tracked
from ntkcl.settings.digest import digest_of
from ntkcl.storage.files import read_json
from ntkcl.storage.lock import exclusive
from ntkcl.training.progress_points import read_points

PROJECT = "ntkcl"
STEPS_PER_TASK = 1000  # logged at most: losses.csv has all steps, and W&B plots no more
RESULTS = "results"  # digest of the results that the offline run has
UPLOADING_MODES = {"online": True, "run": True, "offline": False, "dryrun": False, "disabled": False}


def log_runs(folders: list[Path]) -> None:
    """Log finished runs, each as one W&B run in `wandb/` of its folder, and upload them if you are logged in.

    Results that are logged already are not logged again. Charts of training have `step` as their axis, counted through
    all tasks, and those of accuracy `tasks_learned`. The environment variable WANDB_MODE decides instead whether runs
    are logged and uploaded; WANDB_PROJECT names the project.

    Args:
        folders: folders of the runs, each with a `metrics.json`.

    Raises:
        UserError: WANDB_MODE is unknown, or some runs cannot be logged; all others are.
        ModuleNotFoundError: wandb is not installed.
    """
    if _mode() == "disabled":
        return
    with quiet_wandb():
        logged = _log_offline(folders)
        if uploads() and (waiting := [run for run in logged if not wandb_upload.is_uploaded(run)]):
            with alone():
                problem = wandb_upload.upload(waiting)
            if left := [str(run) for run in waiting if not wandb_upload.is_uploaded(run)]:
                later = f"later: wandb sync {' '.join(left)}"
                print(f"warning: not uploaded to W&B ({problem}); {later}", file=sys.stderr)
    if failed := len(folders) - len(logged):
        raise UserError(f"{failed} of {len(folders)} runs are not logged to W&B; the lines above say why")


def uploads() -> bool:
    """Whether runs are uploaded: if you are logged in, or as WANDB_MODE says.

    Raises:
        UserError: WANDB_MODE is unknown.
    """
    mode = _mode()
    return UPLOADING_MODES[mode] if mode else wandb_upload.is_logged_in()


def _mode() -> str | None:
    mode = os.environ.get("WANDB_MODE")
    if mode and mode not in UPLOADING_MODES:
        raise UserError(f"WANDB_MODE is '{mode}'; {nearest(mode, UPLOADING_MODES)}")
    return mode


def alone() -> AbstractContextManager[bool]:
    """Let no other process upload runs of this folder: curves of a run must not replace its results."""
    return exclusive(Path(".snakemake/wandb.lock"), "uploads to W&B", "fix the permission")


@contextmanager
def quiet_wandb() -> Iterator[None]:
    """Let wandb keep its own log in a folder that is deleted, and send no reports of errors; end its service."""
    import wandb

    with TemporaryDirectory(prefix="ntkcl-wandb-", ignore_cleanup_errors=True) as cache:
        before = dict(os.environ)
        os.environ.update(WANDB_CACHE_DIR=cache, WANDB_ERROR_REPORTING="false")
        try:
            try:
                wandb.setup()
            except Exception as error:  # of pydantic, or its own
                reason = " ".join(str(error).split())[:200]
                raise UserError(
                    f"W&B refuses its settings ({reason}); correct or unset its variables WANDB_*"
                ) from error
            yield
        finally:
            wandb.teardown()
            os.environ.clear()
            os.environ.update(before)


def _log_offline(folders: list[Path]) -> list[Path]:
    """Write all runs offline, in one process; return the offline runs, without those that a warning is printed for."""
    logged = []
    for folder in tracked(folders, "logging to W&B", len(folders), "runs"):
        try:
            logged.append(_offline_run(folder))
        except UserError as error:
            print(f"warning: {error}", file=sys.stderr)
    return logged


def _offline_run(folder: Path) -> Path:
    """Return the offline run of the results in `folder`; write it, replacing earlier results, if it does not exist."""
    content = read_json(folder / "metrics.json")
    record, results = folder / "wandb" / RESULTS, digest_of(content)
    if not (record.exists() and record.read_text() == results):
        _write(folder, content, results)
    return next((folder / "wandb").glob("offline-run-*"))


def _write(folder: Path, content: dict[str, Any], results: str) -> None:
    """Write an offline run next to `folder/wandb`, then move it there as a whole."""
    metrics, partial = content["metrics"], folder / "wandb.partial"
    tasks = 1 if content["run"]["protocol"] == "joint" else len(metrics["accuracy"])
    rows = [*_training_rows(folder, tasks), *_speed_rows(folder, tasks), *_accuracy_rows(metrics)]
    summary = {name: value for name, value in metrics.items() if name != "accuracy" and value is not None}
    try:
        shutil.rmtree(partial, ignore_errors=True)
        write_offline(partial, identity(folder, content), rows, summary)
        (partial / "wandb" / RESULTS).write_text(results)
        shutil.rmtree(folder / "wandb", ignore_errors=True)
        (partial / "wandb").replace(folder / "wandb")
        partial.rmdir()
    except OSError as error:
        raise UserError(f"cannot write {folder}/wandb: {error.strerror}; fix the permission or free space") from error


def write_offline(
    folder: Path, identity: dict[str, Any], rows: list[dict[str, float]], summary: dict[str, Any]
) -> Path:
    """Write a run of W&B to `folder/wandb`, whose parent must exist, and return its folder there.

    Raises:
        UserError: W&B cannot write it.
    """
    import wandb

    folder.mkdir()
    try:
        with wandb.init(dir=folder, mode="offline", settings=_settings(), **identity) as run:
            _define_axes(run)
            for row in rows:
                run.log(row)
            run.summary.update(summary)
    except wandb.Error as error:
        raise UserError(f"W&B cannot log {identity['name']}: {error}; run the same command again") from error
    _delete_what_dvc_refuses(folder)
    return next(folder.glob("wandb/offline-run-*"))


def _delete_what_dvc_refuses(folder: Path) -> None:
    """Delete empty folders, which DVC reports as deleted later, and links into the cache."""
    for link in filter(Path.is_symlink, folder.rglob("*")):
        link.unlink()
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def identity(folder: Path, content: dict[str, Any]) -> dict[str, Any]:
    """Id, name, group, tags and configuration of the W&B run of a run, finished or not.

    Args:
        folder: of the run.
        content: `run` (`Run.describe`), `digest`, `provenance`, and metrics if it has finished.
    """
    described = content["run"]
    group = "{dataset}/{backbone}/{variant}".format(**described)
    begun = read_points(folder / "task0" / "progress.csv")  # the same training is the same run, also while it goes
    return {
        "project": os.environ.get("WANDB_PROJECT", PROJECT),
        "id": digest_of(content["digest"], group, begun[0]["time"]) if begun else digest_of(content),
        "name": f"{group}/seed{described['seed']}",
        "group": group,
        "tags": [described[part] for part in ("dataset", "backbone", "variant", "protocol")],
        "config": described | {"digest": content["digest"], "provenance": content["provenance"]},
    }


def _settings() -> Any:
    """Quiet, and nothing about the machine that logs: `provenance` names the one that computed."""
    import wandb

    return wandb.Settings(
        silent=True,
        console="off",
        symlink=False,
        disable_git=True,
        disable_code=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_disable_machine_info=True,
        x_save_requirements=False,
    )


def _define_axes(run: Any) -> None:
    run.define_metric("step", hidden=True)
    run.define_metric("tasks_learned", hidden=True)
    for name in ("loss/*", "lr", "epoch", "task", "images_per_second"):
        run.define_metric(name, step_metric="step")
    run.define_metric("accuracy/*", step_metric="tasks_learned")


def _training_rows(folder: Path, tasks: int) -> Iterator[dict[str, float]]:
    """Rows of at most `STEPS_PER_TASK` evenly spaced steps of each task: step, task, epoch, lr and `loss/<term>`."""
    done = 0
    for task in range(tasks):
        path = folder / f"task{task}" / "losses.csv"
        if not path.exists():
            raise UserError(f"{path} is missing; train the run again")
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        yield from (_row_of(row, done, task) for row in _thinned(rows))
        done += len(rows)


def _thinned(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    return rows[:: max(1, -(-len(rows) // STEPS_PER_TASK))]


def _row_of(row: dict[str, str], done: int, task: int) -> dict[str, float]:
    """A row of `losses.csv` or `progress.csv` for W&B, in a task before which `done` steps were made."""
    row = {name: value for name, value in row.items() if value and name != "time"}
    plain = {"step": done + int(row.pop("step")), "task": task, "epoch": int(row.pop("epoch"))}
    plain |= {name: float(row.pop(name)) for name in ("lr", "images_per_second") if name in row}
    losses = {f"loss/{name}": float(value) for name, value in row.items()}
    return plain | {name: value for name, value in losses.items() if not math.isnan(value)}


def point_rows(folder: Path, tasks: int) -> Iterator[dict[str, float]]:
    """The points of `progress.csv` of some tasks, as far as they have any, as rows for W&B."""
    done, last = 0, datetime.min.replace(tzinfo=UTC)
    for task in range(tasks):
        points = read_points(folder / f"task{task}" / "progress.csv")
        times = [datetime.fromisoformat(point["time"]) for point in points]
        if times and times[0] < last:
            return  # of a training before this one
        last = times[-1] if times else last
        yield from (_row_of(point, done, task) for point in _thinned(points))
        done += int(points[-1]["step"]) + 1 if points else 0


def _speed_rows(folder: Path, tasks: int) -> Iterator[dict[str, float]]:
    """Images per second at each point of the training."""
    for row in point_rows(folder, tasks):
        yield {"step": row["step"], "images_per_second": row["images_per_second"]}


def _accuracy_rows(metrics: dict[str, Any]) -> Iterator[dict[str, float]]:
    """After each task: accuracy on all learned classes as `accuracy/learned`, on each task as `accuracy/task<k>`."""
    for task, (learned, row) in enumerate(zip(metrics["accuracy"], metrics["accuracy_matrix"], strict=True)):
        of_tasks = {f"accuracy/task{index}": value for index, value in enumerate(row)}
        yield {"tasks_learned": task + 1, "accuracy/learned": learned, **of_tasks}
