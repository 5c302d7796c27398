"""One process at a time."""

import fcntl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ntkcl.errors import UserError

_held = []


def lock_until_exit(path: Path) -> None:
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


@contextmanager
def exclusive(path: Path, doing: str, remedy: str) -> Iterator[bool]:
    """Do something while no other process, here or on another machine of a shared folder, does it.

    Args:
        path: the file that stands for it.
        doing: what a waiting person is told that the other process does.
        remedy: what a person can do where `path` cannot be written, as an imperative.

    Yields:
        Whether another process had to be waited for: then it may be done already.

    Raises:
        UserError: `path` cannot be written.
    """
    lock, waited = FileLock(path), False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            print(f"waiting for another process that {doing}", file=sys.stderr, flush=True)
            waited = True
            lock.acquire()
    except OSError as error:
        raise UserError(f"cannot write into {path.parent} ({error.strerror}); {remedy}") from error
    try:
        yield waited
    finally:
        lock.release()
