"""The manifest of a dataset: name, class and split of each image."""

import csv
import hashlib
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from ntkcl.errors import UserError
from ntkcl.storage.files import write_text

COLUMNS = ["image", "class", "split", "sha256"]


@dataclass(frozen=True)
class Manifest:
    """Unique names of images, with class and split ("train" or "test") of each.

    `class_names` are the classes in the dataset's order, which a run's class order permutes. By default they are
    sorted.
    """

    ids: list[str]
    classes: list[str]
    splits: list[str]
    class_names: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        lengths = {len(self.ids), len(self.classes), len(self.splits)}
        if len(lengths) != 1:
            raise ValueError(f"ids, classes and splits must be equally many, not {sorted(lengths)}")
        if len(set(self.ids)) != len(self.ids):
            raise ValueError("ids must be unique")
        if not set(self.splits) <= {"train", "test"}:
            raise ValueError(f"a split is 'train' or 'test', not {sorted(set(self.splits) - {'train', 'test'})}")
        if not self.class_names:
            object.__setattr__(self, "class_names", sorted(set(self.classes)))
        if set(self.class_names) != set(self.classes):
            raise ValueError("class_names must be the classes of the images")

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def digest(self) -> str:
        """Hash of the split: sixteen hexadecimal digits, from the sorted names, classes and splits of all images."""
        return _digest(zip(self.ids, self.classes, self.splits, strict=True))

    def summary(self) -> dict[str, str | int]:
        """The digest as "split", and the number of training and test images."""
        return {"split": self.digest, "train": self.splits.count("train"), "test": self.splits.count("test")}


def content_digest(labels: Manifest, checksums: list[str]) -> str:
    """Hash a dataset's content: sixteen hexadecimal digits, from names, classes, splits and sha256 of all images."""
    return _digest(zip(labels.ids, labels.classes, labels.splits, checksums, strict=True))


def write_manifest(path: Path, labels: Manifest, checksums: Iterable[str]) -> None:
    """Write a row for each image: name, class, split and sha256.

    Raises:
        UserError: the file cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(zip(labels.ids, labels.classes, labels.splits, checksums, strict=True))
    write_text(path, text.getvalue())


def read_manifest(path: Path, remedy: str, class_names: Iterable[str] = ()) -> tuple[Manifest, list[str]]:
    """Read the manifest `path`, and the sha256 of each image.

    Args:
        path: a file from `write_manifest`.
        remedy: advice for errors, as an imperative.
        class_names: the classes in the dataset's order.

    Raises:
        UserError: the manifest is missing or damaged.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file)
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; {remedy}") from error
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path} cannot be read ({error}); {remedy}") from error
    if header != COLUMNS or any(len(row) != len(COLUMNS) for row in rows):
        raise UserError(f"{path} does not have the columns {', '.join(COLUMNS)} in every row; {remedy}")
    ids, classes, splits, checksums = map(list, zip(*rows, strict=True)) if rows else ([], [], [], [])
    try:
        return Manifest(ids, classes, splits, list(class_names)), checksums
    except ValueError as error:
        raise UserError(f"{path} does not match the images next to it ({error}); {remedy}") from error


def _digest(rows: Iterable[tuple[str, ...]]) -> str:
    return hashlib.sha256(json.dumps(sorted(rows), separators=(",", ":")).encode()).hexdigest()[:16]
