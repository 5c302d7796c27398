"""A set of labelled images and its two files: the pixels, and a manifest with one row per image."""

import csv
import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ntkcl.errors import UserError
from ntkcl.files import write_text
from ntkcl.tensors import read_tensors, write_tensors

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
