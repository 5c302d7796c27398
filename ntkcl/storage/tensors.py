"""Tensor files: safetensors with metadata, written completely or not at all, and checked when they are read."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ntkcl.errors import UserError
from ntkcl.storage.files import write_atomically
from ntkcl.storage.tensor_bytes import SEAL, check_bytes, tensors_digest


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """Write tensors and metadata atomically; equal content gives equal bytes.

    The metadata is one JSON string under one key, since safetensors writes several keys in a random order. It has the
    sha256 of everything in the file.

    Raises:
        UserError: the file cannot be written.
    """
    body = memoryview(save(tensors))
    start = 8 + int.from_bytes(body[:8], "little")
    header, data = json.loads(bytes(body[8:start])), body[start:]
    text = json.dumps(metadata | {SEAL: tensors_digest(metadata, header, data)}, sort_keys=True)
    whole = json.dumps({"__metadata__": {"ntkcl": text}} | header, separators=(",", ":")).encode()
    whole += b" " * (-len(whole) % 8)  # tensors begin at a multiple of eight

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            for part in (len(whole).to_bytes(8, "little"), whole, data):
                file.write(part)

    write_atomically(path, write)


def read_tensors(
    path: Path, file_format: str, version: int, digest: str | None, remedy: str, check: bool = True
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors in `path` and their metadata; arguments and errors as in `checked_metadata`.

    Every byte is checked if `check`, but in files of earlier versions, which wrote no sha256.
    """
    metadata, names = checked_metadata(path, file_format, version, digest, remedy)
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in names}
        if check:
            check_bytes(path, remedy)
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path} is damaged ({' '.join(str(error).split())}); {remedy}") from error
    return tensors, {name: value for name, value in metadata.items() if name != SEAL}


def checked_metadata(
    path: Path, file_format: str, version: int, digest: str | None, remedy: str
) -> tuple[dict[str, Any], list[str]]:
    """Read the metadata in `path` and the names of its tensors, but not the tensors.

    Args:
        path: a file from `write_tensors` with `format`, `version` and `digest` in its metadata.
        file_format: expected format.
        version: expected version.
        digest: digest of the current settings; None accepts any.
        remedy: advice for the error, as an imperative.

    Raises:
        UserError: the file is missing or damaged, has another format, or was written with other settings.
    """
    if not path.is_file():
        raise UserError(f"{path} is missing; {remedy}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = json.loads((file.metadata() or {}).get("ntkcl", "{}"))
            names = list(file.keys())
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path} is damaged ({' '.join(str(error).split())}); {remedy}") from error
    if not isinstance(metadata, dict) or (metadata.get("format"), metadata.get("version")) != (file_format, version):
        raise UserError(f"{path} is not a file of the format {file_format} {version}; {remedy}")
    if digest is not None and metadata.get("digest") != digest:
        raise UserError(f"{path} was made with other settings ({metadata.get('digest')}, now {digest}); {remedy}")
    return metadata, names


def require(metadata: dict[str, Any], types: dict[str, Any], path: Path, remedy: str) -> None:
    """Make sure that the metadata of `path` have these keys, with values of these types.

    Raises:
        UserError: one is missing, or of another type.
    """
    for name, kind in types.items():
        if not isinstance(metadata.get(name), kind):
            raise UserError(f"{path} is damaged: its metadata have no valid '{name}'; {remedy}")


def add_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return `tensors` with `prefix` added to their names."""
    return {f"{prefix}/{name}": tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def strip_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the `tensors` whose names begin with `prefix`, without the prefix."""
    return {name.removeprefix(f"{prefix}/"): t for name, t in tensors.items() if name.startswith(f"{prefix}/")}
