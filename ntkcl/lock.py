"""One pipeline at a time in a folder."""

import fcntl
from pathlib import Path

from ntkcl.errors import UserError

_held = []


def hold(path: Path) -> None:
    """Lock `path` until this process ends, however it ends: Snakemake's own lock outlives a kill.

    Raises:
        UserError: another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UserError(f"another pipeline runs in this folder (it holds {path}); wait for it or stop it") from error
    _held.append(file)
