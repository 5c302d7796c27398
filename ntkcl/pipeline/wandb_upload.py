"""Uploading offline W&B runs: without network, or with a wrong key, a warning is printed, and nothing is lost."""

import netrc
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlparse

from ntkcl.progress import shown

REACH_SECONDS = 5
UPLOAD_SECONDS = 300  # for all runs of one call of `wandb sync`
RUNS_PER_UPLOAD = 20


def is_logged_in() -> bool:
    """Return whether there is a key for the W&B server, in the environment or in a netrc file."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    return any(key.authenticators(urlparse(_server()).hostname) for key in _netrcs())


def has_keys() -> bool:
    """Return whether there is a key for any server; wandb is not imported."""
    return bool(os.environ.get("WANDB_API_KEY") or _netrcs())


def _netrcs() -> list[netrc.netrc]:
    try:
        paths = (
            [Path(os.environ["NETRC"])] if "NETRC" in os.environ else [Path.home() / ".netrc", Path.home() / "_netrc"]
        )
        return [netrc.netrc(path) for path in paths if path.exists()]
    except (netrc.NetrcParseError, OSError, RuntimeError):  # the last one: there is no home
        return []


def upload(runs: list[Path]) -> str | None:
    """Upload the offline `runs`; return what went wrong."""
    problem = _unreachable(_server()) if runs else None
    with shown("uploading to W&B", len(runs), "runs") as report:
        for start in range(0, 0 if problem else len(runs), RUNS_PER_UPLOAD):
            part = runs[start : start + RUNS_PER_UPLOAD]
            error = _sync(part)
            problem = problem or (None if all(map(is_uploaded, part)) else error)
            report(min(start + RUNS_PER_UPLOAD, len(runs)))
    return problem


def _server() -> str:
    """The address of the W&B server: the public one, or as your settings say."""
    import wandb

    return wandb.setup().settings.base_url


def is_uploaded(run: Path) -> bool:
    """Return whether `wandb sync` left its marker file."""
    return any(run.glob("*.wandb.synced"))


def _unreachable(server: str) -> str | None:
    """Return why `server` does not answer: wandb itself would try for minutes."""
    try:
        urllib.request.urlopen(server, timeout=REACH_SECONDS).close()
    except urllib.error.HTTPError:
        return None  # an answer all the same
    except OSError as error:
        return f"{server} does not answer: {getattr(error, 'reason', error)}"
    return None


def _sync(runs: list[Path]) -> str:
    """Upload `runs` in one process; return the last error. (Its exit code is 0 in any case.)"""
    command = [sys.executable, "-m", "wandb", "sync", *map(str, runs)]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=UPLOAD_SECONDS)
    except subprocess.TimeoutExpired:
        return f"not finished after {UPLOAD_SECONDS} s"
    lines = (done.stdout + done.stderr).strip().splitlines() or [f"exit code {done.returncode}"]
    return next((line for line in lines if "ERROR" in line), lines[-1]).removeprefix("wandb: ")
