"""A set of labelled images and its two files: the pixels, and a manifest with one row per image."""

import csv
import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ntkcl.errors import UserError
from ntkcl.files import write_atomically, write_text

FORMAT = "ntkcl-images"
VERSION = 1
COLUMNS = ["image", "class", "split", "sha256"]


@dataclass(frozen=True)
class ImageSet:
    """Images with their classes, splits and names.

    `images` is (N, C, H, W), uint8; the lists have one entry per image. Splits are "train" or "test"; `ids` are
    unique.
    """

    images: Tensor
    classes: list[str]
    splits: list[str]
    ids: list[str]

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8 or self.images.ndim != 4:
            raise ValueError(f"images must be uint8 (N, C, H, W), not {self.images.dtype} {tuple(self.images.shape)}")
        lengths = {len(self.images), len(self.classes), len(self.splits), len(self.ids)}
        if len(lengths) != 1:
            raise ValueError(f"images, classes, splits and ids must be equally many, not {sorted(lengths)}")
        if len(set(self.ids)) != len(self.ids):
            raise ValueError("ids must be unique")
        if not set(self.splits) <= {"train", "test"}:
            raise ValueError(f"a split is 'train' or 'test', not {sorted(set(self.splits) - {'train', 'test'})}")


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
    path: Path, file_format: str, version: int, digest: str, remedy: str
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors in `path` and what is known about them.

    Args:
        path: a file that `write_tensors` wrote with `format`, `version` and `digest` in its metadata.
        file_format: the format that is expected.
        version: the version that is expected.
        digest: names the present settings.
        remedy: what a person can do where the file does not fit, as an imperative.

    Raises:
        UserError: the file is missing, damaged, of another format, or was made with other settings.
    """
    if not path.is_file():
        raise UserError(f"{path} is missing; {remedy}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = json.loads((file.metadata() or {}).get("ntkcl", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path} is damaged ({' '.join(str(error).split())}); {remedy}") from error
    if not isinstance(metadata, dict) or (metadata.get("format"), metadata.get("version")) != (file_format, version):
        raise UserError(f"{path} is not a file of the format {file_format} {version}; {remedy}")
    if metadata.get("digest") != digest:
        raise UserError(f"{path} was made with other settings ({metadata.get('digest')}, now {digest}); {remedy}")
    return tensors, metadata


def write_images(folder: Path, images: ImageSet, metadata: dict[str, Any]) -> None:
    """Write `images.safetensors` and `manifest.csv` into `folder`.

    Raises:
        UserError: a file cannot be written.
    """
    rows = zip(images.ids, images.classes, images.splits, _checksums(images.images), strict=True)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(rows)
    write_text(folder / "manifest.csv", text.getvalue())
    about = {"format": FORMAT, "version": VERSION} | metadata
    write_tensors(folder / "images.safetensors", {"images": images.images.contiguous()}, about)


def read_images(folder: Path, digest: str, remedy: str) -> ImageSet:
    """The images that `write_images` wrote into `folder`; every image is checked against the manifest.

    Args:
        folder: where the two files lie.
        digest: names the present settings.
        remedy: what a person can do where a file does not fit, as an imperative.

    Raises:
        UserError: a file is missing, damaged, or was made with other settings.
    """
    tensors, _ = read_tensors(folder / "images.safetensors", FORMAT, VERSION, digest, remedy)
    path = folder / "manifest.csv"
    rows = _manifest_rows(path, remedy)
    try:
        images = ImageSet(
            tensors["images"],
            *([row[column] for row in rows] for column in COLUMNS[1:3]),
            ids=[row["image"] for row in rows],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} does not fit the images beside it ({error}); {remedy}") from error
    for row, checksum in zip(rows, _checksums(images.images), strict=True):
        if row["sha256"] != checksum:
            raise UserError(f"{path}: the checksum of image '{row['image']}' does not fit its pixels; {remedy}")
    return images


def _manifest_rows(path: Path, remedy: str) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; {remedy}") from error
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path} cannot be read ({error}); {remedy}") from error
    if reader.fieldnames != COLUMNS or any(None in row or None in row.values() for row in rows):
        raise UserError(f"{path} does not have the columns {', '.join(COLUMNS)} in every row; {remedy}")
    return rows


def _checksums(images: Tensor) -> list[str]:
    """The sha256 of each image's bytes."""
    return [hashlib.sha256(image.tobytes()).hexdigest() for image in images.contiguous().numpy()]
