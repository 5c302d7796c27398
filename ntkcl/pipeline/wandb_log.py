"""A finished run on Weights & Biases, from its files alone.

The run is always written offline into its own folder first. Where the person is logged in it is then uploaded from
there: a network that fails, or a wrong key, costs a warning and never the run.
"""

import netrc
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pandas as pd

from ntkcl.errors import UserError, nearest
from ntkcl.settings.digest import digest_of
from ntkcl.storage.files import read_json

PROJECT = "ntkcl"
ROWS = 1000  # steps logged of each task at most: its file has all of them, and W&B draws no more
MODES = {"online": True, "run": True, "offline": False, "dryrun": False, "disabled": False}
REACH_SECONDS = 5
UPLOAD_SECONDS = 300


def track(run_folder: Path) -> None:
    """Log the finished run in `run_folder` as one W&B run, into `run_folder/wandb` in place of an earlier one.

    Charts of training go over `step`, counted through all tasks; those of accuracy over `tasks_learned`. It is also
    uploaded if the person is logged in, unless WANDB_MODE says otherwise; WANDB_PROJECT names the project.

    Raises:
        UserError: files of the run or the package wandb are missing, or WANDB_MODE is unknown.
    """
    content = read_json(run_folder / "metrics.json")
    tasks = 1 if content["run"]["protocol"] == "joint" else len(content["metrics"]["accuracy"])
    losses = _read_losses(run_folder, tasks)
    mode = os.environ.get("WANDB_MODE")
    if mode and mode not in MODES:
        raise UserError(f"WANDB_MODE is '{mode}'; {nearest(mode, MODES)}")
    folder = run_folder / "wandb"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror}; fix the permission or free space") from error
    if mode == "disabled":
        return
    # wandb's own log goes to its cache, by default in the home folder; its reports of errors go over the network
    with _environment(WANDB_CACHE_DIR=str(folder / "cache"), WANDB_ERROR_REPORTING="false"):
        offline, server = _log_offline(run_folder, content, losses)
        if MODES[mode] if mode else _logged_in(server):
            _upload(offline, server)
    shutil.rmtree(folder / "cache", ignore_errors=True)
    for empty in [path for path in folder.rglob("*") if path.is_dir() and not any(path.iterdir())]:
        empty.rmdir()  # DVC does not keep them, and would report them as deleted
    for link in filter(Path.is_symlink, folder.rglob("*")):
        link.unlink()  # points into the cache that is gone; DVC refuses to version a dangling link


def _read_losses(run_folder: Path, tasks: int) -> list[pd.DataFrame]:
    """The losses of each task, thinned to `ROWS` evenly spaced steps, with the task and a step over all tasks."""
    tables, done = [], 0
    for task in range(tasks):
        path = run_folder / f"task{task}" / "losses.csv"
        if not path.exists():
            raise UserError(f"{path} is missing; train the run again")
        table = pd.read_csv(path)
        table = table.assign(task=task, step=range(done, done + len(table)))
        done += len(table)
        tables.append(table.iloc[:: max(1, -(-len(table) // ROWS))])
    return tables


def _log_offline(run_folder: Path, content: dict[str, Any], losses: list[pd.DataFrame]) -> tuple[Path, str]:
    """Write the run offline; where it lies, and the server that it would go to."""
    try:
        import wandb
    except ModuleNotFoundError as error:
        raise UserError("wandb is not installed; install it with `make install`") from error
    try:
        with wandb.init(dir=run_folder, mode="offline", settings=_settings(), **_identity(content)) as run:
            _fill(run, content["metrics"], losses)
            return Path(run.settings.sync_dir), run.settings.base_url
    except wandb.Error as error:
        raise UserError(f"W&B cannot log {run_folder}: {error}; run the same command again") from error


def _identity(content: dict[str, Any]) -> dict[str, Any]:
    """What W&B calls the run and sorts it by."""
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


def _fill(run: Any, metrics: dict[str, Any], losses: list[pd.DataFrame]) -> None:
    """Log all rows and the summary."""
    run.define_metric("step", hidden=True)
    run.define_metric("tasks_learned", hidden=True)
    for name in ("loss/*", "lr", "epoch", "task"):
        run.define_metric(name, step_metric="step")
    run.define_metric("accuracy/*", step_metric="tasks_learned")
    for values in _training_rows(losses):
        run.log(values)
    for values in _accuracy_rows(metrics):
        run.log(values)
    run.summary.update({name: value for name, value in metrics.items() if name != "accuracy" and value is not None})


def _settings() -> Any:
    """Quiet, and nothing about the machine that logs: the numbers were made elsewhere, see `provenance`."""
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


def _training_rows(losses: list[pd.DataFrame]) -> Iterator[dict[str, float]]:
    """What is logged of each step: step, task, epoch, lr and `loss/<term>`, without terms that the step has not."""
    plain = {"step", "task", "epoch", "lr"}
    for table in losses:
        named = table.rename(columns={name: f"loss/{name}" for name in table if name not in plain})
        for values in named.to_dict("records"):
            yield {name: value for name, value in values.items() if not pd.isna(value)}


def _accuracy_rows(metrics: dict[str, Any]) -> Iterator[dict[str, float]]:
    """After each task: A_t as `accuracy/seen`, and a(t, k) as `accuracy/task<k>`."""
    for task, (seen, row) in enumerate(zip(metrics["accuracy"], metrics["accuracy_matrix"], strict=True)):
        of_tasks = {f"accuracy/task{index}": value for index, value in enumerate(row)}
        yield {"tasks_learned": task + 1, "accuracy/seen": seen, **of_tasks}


def _logged_in(server: str) -> bool:
    """Whether there is a key for `server`, in the environment or in a netrc file."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    places = [Path(os.environ["NETRC"])] if "NETRC" in os.environ else [Path.home() / ".netrc", Path.home() / "_netrc"]
    try:
        return any(netrc.netrc(place).authenticators(urlparse(server).hostname) for place in places if place.exists())
    except (netrc.NetrcParseError, OSError):
        return False


def _upload(offline: Path, server: str) -> None:
    """Send an offline run to `server`, or say in one line why not and how to do it later."""
    problem = _unreachable(server) or _sync(offline)
    if problem:
        print(f"warning: not uploaded to W&B ({problem}); later: wandb sync {offline}", file=sys.stderr)


def _unreachable(server: str) -> str | None:
    """Why `server` does not answer: wandb itself would try for minutes."""
    try:
        urllib.request.urlopen(server, timeout=REACH_SECONDS).close()
    except urllib.error.HTTPError:
        return None  # an answer all the same
    except OSError as error:
        return f"{server} does not answer: {getattr(error, 'reason', error)}"
    return None


def _sync(offline: Path) -> str | None:
    """Why `offline` did not arrive. `wandb sync` exits with 0 all the same: only its marker file says that it did."""
    command = [sys.executable, "-m", "wandb", "sync", str(offline)]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=UPLOAD_SECONDS)
    except subprocess.TimeoutExpired:
        return f"not finished after {UPLOAD_SECONDS} s"
    if list(offline.glob("*.wandb.synced")):
        return None
    lines = (done.stdout + done.stderr).strip().splitlines() or [f"exit code {done.returncode}"]
    return next((line for line in lines if "ERROR" in line), lines[-1]).removeprefix("wandb: ")


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    """Environment variables for a while, also for programs started meanwhile."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
