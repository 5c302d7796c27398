"""Files that are written completely or not at all."""

import contextlib
import hashlib
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ntkcl.errors import UserError

SEAL = "sha256"  # key of sealed JSON


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file next to `path`, then rename it to `path`.

    Raises:
        UserError: the file cannot be written (full disk, no permission). An existing file at `path` is unchanged.
    """
    host = socket.gethostname()
    temporary = path.with_name(f".{path.name}.{host}-{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left_over in path.parent.glob(f".{path.name}.{host}-*.partial"):
            if not _is_alive(int(left_over.name.removesuffix(".partial").rpartition("-")[2])):
                left_over.unlink()
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(
            f"cannot write {path}: {reason}; free space or fix the permission, then run the same command again "
            "(finished files are kept)"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return process != os.getpid()  # else: left over by an earlier process with our number


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically, with sorted keys, two spaces and a final newline; equal content gives equal bytes."""
    write_text(path, json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def write_sealed_json(path: Path, content: dict[str, Any]) -> None:
    """Write JSON with the sha256 of its content, which `read_json` compares."""
    write_json(path, content | {SEAL: _digest(json.loads(json.dumps(content)))})  # as it will be read


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        UserError: the file is missing, is not JSON, or does not have the sha256 that was written with it.
    """
    try:
        content = json.loads(path.read_bytes())
        if isinstance(content, dict) and content.pop(SEAL, None) not in (None, _digest(content)):
            raise UserError(
                f"{path} was damaged or edited: its content does not have the sha256 in it; delete it and run the step "
                f"that writes it (`snakemake --cores all {path}`)"
            )
        return content
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; run the step that writes it (`snakemake --cores all {path}`)") from error
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path} is not valid JSON ({error}); delete it and run the step that writes it "
            f"(`snakemake --cores all {path}`)"
        ) from error


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
