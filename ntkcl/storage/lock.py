"""Locks between processes."""

import fcntl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from filelock import FileLock, Timeout

from ntkcl.errors import UserError

_locks = []  # open files; the operating system releases them when the process ends


def locked(path: Path) -> TextIO:
    """Lock `path` until the file that is returned is closed, or this process ends: Snakemake's lock outlives a kill.

    Raises:
        UserError: another process has locked it, or it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("w")
    except OSError as error:
        raise UserError(
            f"cannot write {path.resolve()} ({error.strerror}); this folder is read-only or belongs to another user: "
            "start from a copy of your own"
        ) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UserError(f"another pipeline runs in this folder (it locked {path}); wait for it or stop it") from error
    except OSError as error:  # as Lustre without the option flock
        print(f"warning: this file system has no locks ({error.strerror}); start one pipeline only", file=sys.stderr)
    return file


def lock_until_exit(path: Path) -> None:
    """As `locked`, until this process ends, however it ends."""
    _locks.append(locked(path))


@contextmanager
def exclusive(path: Path, doing: str, remedy: str) -> Iterator[bool]:
    """Keep other processes, here or on another machine with the same folder, out of a block of code.

    Args:
        path: the lock file.
        doing: activity of the other process, for the message to a waiting user, such as "prepares digits".
        remedy: advice for the error if `path` cannot be written, as an imperative.

    Yields:
        True if another process had to be waited for: it may have done the work already.

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
