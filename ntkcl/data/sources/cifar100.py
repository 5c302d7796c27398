"""CIFAR-100 from its authors' archive: 60,000 images of 32x32 pixels, published as pickles of Python 2."""

import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ntkcl.data.prepared.arrays import ImageSet
from ntkcl.data.prepared.manifest import Manifest
from ntkcl.data.sources.common.archives import contents
from ntkcl.data.sources.common.options import Source
from ntkcl.errors import UserError
from ntkcl.settings.models import Model

FOLDER = "cifar-100-python"
SHAPE = (3, 32, 32)


class Options(Model):
    """CIFAR-100 has no options."""


def make(options: Options, files: Mapping[str, Path]) -> ImageSet:
    """Read the images with their fine labels, training images first; the classes are in the order of the labels.

    Raises:
        UserError: the archive is damaged, refused, or not CIFAR-100's.
    """
    (path,) = files.values()
    names = {split: f"{FOLDER}/{split}" for split in ("train", "test", "meta")}
    found = dict(contents(path, set(names.values())))
    try:
        parts = {split: _unpickled(found[name]) for split, name in names.items()}
        class_names = parts.pop("meta")["fine_label_names"]
        images = np.concatenate([part["data"].reshape(-1, *SHAPE) for part in parts.values()])
        labels = Manifest(
            [f"{split}/{index:05d}" for split, part in parts.items() for index in range(len(part["data"]))],
            [class_names[label] for part in parts.values() for label in part["fine_labels"]],
            [split for split, part in parts.items() for _ in part["data"]],
            class_names,
        )
        return ImageSet(labels, torch.from_numpy(images))
    except (pickle.UnpicklingError, EOFError, LookupError, AttributeError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} is not the archive of CIFAR-100 ({' '.join(str(error).split())}); delete it and run the same "
            "command again"
        ) from error


class _ArraysOnly(pickle.Unpickler):
    """Unpickler of numbers, text, lists, dictionaries and arrays; any other name in a pickle is an error."""

    _ALLOWED = {  # noqa: RUF012
        ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return self._ALLOWED[module, name]


def _unpickled(content: bytes) -> dict[str, Any]:
    return _ArraysOnly(io.BytesIO(content), encoding="latin1").load()


SOURCE = Source(Options, make)
