"""Images and labels in four IDX files, compressed with gzip: the format of MNIST and of sets made like it."""

import gzip
import hashlib
import math
import zlib
from collections.abc import Mapping
from itertools import product
from pathlib import Path

import numpy as np
import torch
from pydantic import Field

from ntkcl.data.prepared.arrays import ImageSet
from ntkcl.data.prepared.manifest import Manifest
from ntkcl.data.sources.common.options import Source
from ntkcl.errors import UserError
from ntkcl.settings.models import Model, Sha256

UNSIGNED_BYTE = 8  # the type of values, in the third byte of a file
MAX_BYTES = 2**28  # of the content of a file


class Options(Model):
    """Options of IDX files. Their names begin with train or t10k, the test images, and contain images or labels."""

    class_names: list[str] = Field(description="names of the labels 0, 1, ...")
    sha256: dict[str, Sha256] = Field({}, description="sha256 of the uncompressed content of each file, by its name")


def make(options: Options, files: Mapping[str, Path]) -> ImageSet:
    """Read all images, training images first; the classes are in the order of the labels.

    Raises:
        UserError: a file is missing, damaged, has other content, or does not fit the others.
    """
    arrays = {}
    for split, part in product(("train", "t10k"), ("images", "labels")):
        names = [name for name in files if name.startswith(split) and part in name]
        if len(names) != 1:
            raise UserError(f"one file must be called {split}...{part}..., not {len(names)}; correct files in the YAML")
        arrays[split, part] = _read(files[names[0]], options.sha256.get(names[0]), 3 if part == "images" else 1)
    ids, classes, splits = [], [], []
    for split, name in (("train", "train"), ("t10k", "test")):
        labels = arrays[split, "labels"].tolist()
        if len(labels) != len(arrays[split, "images"]) or max(labels, default=0) >= len(options.class_names):
            raise UserError(f"the labels of {name} do not fit its images and {len(options.class_names)} class names")
        ids += [f"{name}/{index:05d}" for index in range(len(labels))]
        classes += [options.class_names[label] for label in labels]
        splits += [name] * len(labels)
    images = np.concatenate([arrays[split, "images"] for split in ("train", "t10k")])
    return ImageSet(Manifest(ids, classes, splits, options.class_names), torch.from_numpy(images)[:, None])


def _read(path: Path, sha256: str | None, dimensions: int) -> np.ndarray:
    """Read an array of unsigned bytes.

    IDX is two zero bytes, the type, the number of dimensions, their sizes (4 bytes each, big-endian), and the values.
    """
    remedy = "delete it and run the same command again"
    try:
        with gzip.open(path) as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} is not a whole gzip file ({error}); {remedy}") from error
    if sha256 not in (None, hashlib.sha256(content).hexdigest()):
        raise UserError(f"the content of {path} does not have the sha256 in the dataset's YAML; {remedy}")
    start = 4 + 4 * dimensions
    sizes = [int.from_bytes(content[at : at + 4], "big") for at in range(4, start, 4)]
    expected = bytes([0, 0, UNSIGNED_BYTE, dimensions])
    if content[:4] != expected or len(content) - start != math.prod(sizes):
        raise UserError(f"{path} is not an IDX file of bytes in {dimensions} dimensions; {remedy}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(sizes).copy()


SOURCE = Source(Options, make)
