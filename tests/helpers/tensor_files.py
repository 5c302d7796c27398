"""Tensor files with other tensors, as another program or an earlier version would have written them."""

import json
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from ntkcl.storage.tensor_bytes import SEAL
from ntkcl.storage.tensors import write_tensors


def rewrite_tensors(path: Path, without: tuple[str, ...] = (), **tensors: Tensor) -> None:
    """Replace tensors, whose names are given after the last slash, and leave out others; the metadata stay."""
    with safe_open(path, "pt") as file:
        metadata = json.loads(file.metadata()["ntkcl"])
    metadata.pop(SEAL)
    kept = {name: tensor for name, tensor in load_file(path).items() if name.rpartition("/")[2] not in without}
    write_tensors(path, kept | {f"learner/{name}": tensor for name, tensor in tensors.items()}, metadata)
