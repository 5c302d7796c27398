"""The sha256 of a tensor file, checked without torch."""

import hashlib
import json
import mmap
from pathlib import Path
from typing import Any

from ntkcl.errors import UserError

SEAL = "content_sha256"  # key in the metadata


def check_bytes(path: Path, remedy: str) -> None:
    """Compare the content of a file of `write_tensors` with its sha256; torch is not needed.

    Raises:
        UserError: a byte is not what was written.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        start = 8 + int.from_bytes(mapped[:8], "little")
        metadata, header = _parsed(mapped[8:start])
        expected = metadata.pop(SEAL, None)
        with memoryview(mapped) as view, view[start:] as data:
            found = tensors_digest(metadata, header, data)
    if expected not in (None, found):
        raise UserError(f"{path} is damaged: its content does not have the sha256 that was written; {remedy}")


def metadata_of(path: Path) -> dict[str, Any]:
    """Return the metadata of a file of `write_tensors`, empty if it has none; nothing is checked.

    Raises:
        ValueError: it is no tensor file.
    """
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > path.stat().st_size:
            raise ValueError(f"{path} is no tensor file")
        return _parsed(file.read(size))[0]


def _parsed(header: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """Metadata, and the rest of the header."""
    rest = json.loads(header)
    return json.loads(rest.pop("__metadata__", {}).get("ntkcl", "{}")), rest


def tensors_digest(metadata: dict[str, Any], header: dict[str, Any], data: memoryview) -> str:
    """Return the sha256 of metadata, header (names, types, shapes and places of the tensors) and data of a file."""
    digest = hashlib.sha256(json.dumps([metadata, header], sort_keys=True).encode())
    digest.update(data)
    return digest.hexdigest()
