"""Tensor files: safetensors with what is known about the tensors; written whole, and refused where they do not fit."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ntkcl.errors import UserError
from ntkcl.storage.files import write_atomically


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """Write tensors and what is known about them atomically; equal content gives equal bytes.

    The metadata is one JSON string under one key, since safetensors writes several keys in a random order.

    Raises:
        UserError: the file cannot be written.
    """
    text = json.dumps(metadata, sort_keys=True)
    content = save(tensors, metadata={"ntkcl": text})
    write_atomically(path, lambda temporary: temporary.write_bytes(content))


def read_tensors(
    path: Path, file_format: str, version: int, digest: str | None, remedy: str
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors in `path` and what is known about them; arguments and errors as in `checked_metadata`."""
    metadata, names = checked_metadata(path, file_format, version, digest, remedy)
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in names}, metadata
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path} is damaged ({' '.join(str(error).split())}); {remedy}") from error


def checked_metadata(
    path: Path, file_format: str, version: int, digest: str | None, remedy: str
) -> tuple[dict[str, Any], list[str]]:
    """What is known about the tensors in `path`, and their names, without reading them.

    Args:
        path: a file that `write_tensors` wrote with `format`, `version` and `digest` in its metadata.
        file_format: the format that is expected.
        version: the version that is expected.
        digest: names the present settings; None where any will do.
        remedy: what a person can do where the file does not fit, as an imperative.

    Raises:
        UserError: the file is missing, damaged, of another format, or was made with other settings.
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


def add_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """`tensors` with names that begin with `prefix`."""
    return {f"{prefix}/{name}": tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def strip_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The `tensors` whose names begin with `prefix`, without it."""
    return {name.removeprefix(f"{prefix}/"): t for name, t in tensors.items() if name.startswith(f"{prefix}/")}
