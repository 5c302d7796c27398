"""A folder that is written completely or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ntkcl.errors import UserError


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a folder beside `path` to be filled; it gets the name `path` at the end.

    Raises:
        UserError: there is something at `path`, or it cannot be written.
    """
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise UserError(f"{path} exists; delete it, or name another folder: --to FOLDER")
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True)
        yield partial
        partial.replace(path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}; free space or name another folder") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def copy(path: Path, to: Path) -> None:
    """Copy a file to `to`, whose folders are made."""
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, to)
