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
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ntkcl.errors import UserError, nearest
from ntkcl.pipeline import wandb_upload
from ntkcl.progress import tracked
from ntkcl.settings.digest import digest_of
from ntkcl.storage.files import read_json

PROJECT = "ntkcl"
STEPS_PER_TASK = 1000  # logged at most: losses.csv has all steps, and W&B plots no more
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
    mode = os.environ.get("WANDB_MODE")
    if mode and mode not in UPLOADING_MODES:
        raise UserError(f"WANDB_MODE is '{mode}'; {nearest(mode, UPLOADING_MODES)}")
    if mode == "disabled":
        return
    with _quiet_wandb():
        logged = _log_offline(folders)
        if UPLOADING_MODES[mode] if mode else wandb_upload.is_logged_in():
            wandb_upload.upload(logged)
    if failed := len(folders) - len(logged):
        raise UserError(f"{failed} of {len(folders)} runs are not logged to W&B; the lines above say why")


@contextmanager
def _quiet_wandb() -> Iterator[None]:
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
    identity = _identity(content)
    pattern = f"wandb/offline-run-*-{identity['id']}"
    if not list(folder.glob(pattern)):
        _write(folder, content, identity)
    return next(folder.glob(pattern))


def _write(folder: Path, content: dict[str, Any], identity: dict[str, Any]) -> None:
    """Write an offline run next to `folder/wandb`, then move it there as a whole."""
    import wandb

    metrics, partial = content["metrics"], folder / "wandb.partial"
    tasks = 1 if content["run"]["protocol"] == "joint" else len(metrics["accuracy"])
    rows = [*_training_rows(folder, tasks), *_accuracy_rows(metrics)]
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        with wandb.init(dir=partial, mode="offline", settings=_settings(), **identity) as run:
            _fill(run, metrics, rows)
        _delete_what_dvc_refuses(partial)
        shutil.rmtree(folder / "wandb", ignore_errors=True)
        (partial / "wandb").replace(folder / "wandb")
        partial.rmdir()
    except wandb.Error as error:
        raise UserError(f"W&B cannot log {folder}: {error}; run the same command again") from error
    except OSError as error:
        raise UserError(f"cannot write {folder}/wandb: {error.strerror}; fix the permission or free space") from error


def _delete_what_dvc_refuses(folder: Path) -> None:
    """Delete empty folders, which DVC reports as deleted later, and links into the cache."""
    for link in filter(Path.is_symlink, folder.rglob("*")):
        link.unlink()
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def _identity(content: dict[str, Any]) -> dict[str, Any]:
    """Name, group, tags and configuration of the W&B run."""
    described = content["run"]
    group = "{dataset}/{backbone}/{variant}".format(**described)
    return {
        "project": os.environ.get("WANDB_PROJECT", PROJECT),
        "id": digest_of(content),  # the same results are the same run, however often they are uploaded
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


def _fill(run: Any, metrics: dict[str, Any], rows: list[dict[str, float]]) -> None:
    """Log the axes, all rows and the summary."""
    run.define_metric("step", hidden=True)
    run.define_metric("tasks_learned", hidden=True)
    for name in ("loss/*", "lr", "epoch", "task"):
        run.define_metric(name, step_metric="step")
    run.define_metric("accuracy/*", step_metric="tasks_learned")
    for row in rows:
        run.log(row)
    run.summary.update({name: value for name, value in metrics.items() if name != "accuracy" and value is not None})


def _training_rows(folder: Path, tasks: int) -> Iterator[dict[str, float]]:
    """Rows of at most `STEPS_PER_TASK` evenly spaced steps of each task: step, task, epoch, lr and `loss/<term>`."""
    done = 0
    for task in range(tasks):
        path = folder / f"task{task}" / "losses.csv"
        if not path.exists():
            raise UserError(f"{path} is missing; train the run again")
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        for row in rows[:: max(1, -(-len(rows) // STEPS_PER_TASK))]:
            plain = {"step": done + int(row.pop("step")), "task": task, "epoch": int(row.pop("epoch"))}
            plain["lr"] = float(row.pop("lr"))
            losses = {f"loss/{name}": float(value) for name, value in row.items()}
            yield plain | {name: value for name, value in losses.items() if not math.isnan(value)}
        done += len(rows)


def _accuracy_rows(metrics: dict[str, Any]) -> Iterator[dict[str, float]]:
    """After each task: accuracy on all learned classes as `accuracy/learned`, on each task as `accuracy/task<k>`."""
    for task, (learned, row) in enumerate(zip(metrics["accuracy"], metrics["accuracy_matrix"], strict=True)):
        of_tasks = {f"accuracy/task{index}": value for index, value in enumerate(row)}
        yield {"tasks_learned": task + 1, "accuracy/learned": learned, **of_tasks}
