"""Sets of labelled images and their two files: the pixels, and a manifest with one row per image.

Small images that came as arrays are kept as arrays. All others stay as they were encoded (JPEG, PNG, ...), one after
another in one file: a shared file system takes one file of 18 GB better than half a million small ones.
"""

import csv
import hashlib
import io
import json
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ntkcl.data.decoding import decode
from ntkcl.errors import UserError
from ntkcl.files import write_atomically, write_text
from ntkcl.tensors import checked_metadata, read_tensors, write_tensors

FORMAT = "ntkcl-images"
VERSION = 1
COLUMNS = ["image", "class", "split", "sha256"]
PIXELS, MANIFEST = "images.safetensors", "manifest.csv"


@dataclass(frozen=True)
class Labels:
    """The names of images, unique, with class and split ("train" or "test") of each.

    `class_names` are the classes in the dataset's own order, which a run's class order permutes; sorted if not given.
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
        """Names the split: sixteen hexadecimal digits of the names, classes and splits of all images, sorted."""
        rows = sorted(zip(self.ids, self.classes, self.splits, strict=True))
        return hashlib.sha256(json.dumps(rows, separators=(",", ":")).encode()).hexdigest()[:16]

    def summary(self) -> dict[str, str | int]:
        """The digest as "split", and the number of training and test images."""
        return {"split": self.digest, "train": self.splits.count("train"), "test": self.splits.count("test")}


@dataclass(frozen=True)
class ImageSet:
    """Images as one array (N, C, H, W), uint8."""

    labels: Labels
    images: Tensor

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8 or self.images.ndim != 4:
            raise ValueError(f"images must be uint8 (N, C, H, W), not {self.images.dtype} {tuple(self.images.shape)}")
        if len(self.images) != len(self.labels):
            raise ValueError(f"{len(self.images)} images have {len(self.labels)} labels")

    def image(self, row: int) -> Image.Image:
        """Image `row`, as a picture."""
        return Image.fromarray(self.images[row].permute(1, 2, 0).squeeze(2).numpy())

    def damage(self, row: int) -> str:
        """What is wrong with image `row`: nothing, since the array was checked when it was read."""
        return ""


@dataclass(frozen=True)
class FileSet:
    """Images to be packed: `contents` yields (row, encoded image) once for each, in any order."""

    labels: Labels
    contents: Iterable[tuple[int, bytes]]


@dataclass(frozen=True)
class PackedSet:
    """Images as they were encoded, in one file: `encoded` (bytes), image `row` at `spans[row]` = (start, end)."""

    labels: Labels
    encoded: np.ndarray
    spans: np.ndarray
    checksums: list[str]
    exif_rotation: bool
    remedy: str

    def image(self, row: int) -> Image.Image:
        """Image `row`, decoded.

        Raises:
            UserError: its bytes do not fit their checksum, or are not an image.
        """
        if damage := self.damage(row, decoded=False):
            raise UserError(f"image '{self.labels.ids[row]}' is damaged ({damage}); {self.remedy}")
        return decode(self._content(row), self.labels.ids[row], self.exif_rotation)

    def damage(self, row: int, decoded: bool = True) -> str:
        """What is wrong with image `row`, or nothing."""
        content = self._content(row)
        if hashlib.sha256(content).hexdigest() != self.checksums[row]:
            return "its bytes do not fit the manifest"
        try:
            if decoded:
                decode(content, self.labels.ids[row])
        except UserError as error:
            return str(error)
        return ""

    def _content(self, row: int) -> bytes:
        start, end = self.spans[row]
        return self.encoded[start:end].tobytes()


def write_images(folder: Path, images: ImageSet | FileSet, metadata: dict[str, Any], threads: int = 1) -> None:
    """Write the pixels and the manifest into `folder`; encoded images are decoded by `threads` threads to check them.

    Raises:
        UserError: a file cannot be written, or an encoded image cannot be decoded.
    """
    labels = images.labels
    about = {"format": FORMAT, "version": VERSION, "class_names": labels.class_names} | metadata
    if isinstance(images, ImageSet):
        checksums = _checksums(images.images)
        write_tensors(folder / PIXELS, {"images": images.images.contiguous()}, about)
    else:
        checksums = _write_packed(folder / PIXELS, images, about, threads)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(zip(labels.ids, labels.classes, labels.splits, checksums, strict=True))
    write_text(folder / MANIFEST, text.getvalue())


def _write_packed(path: Path, images: FileSet, about: dict[str, Any], threads: int) -> list[str]:
    """Write a safetensors file with `encoded` and `spans` without holding the images; the checksum of each."""
    count = len(images.labels)
    spans, checksums = np.zeros((count, 2), np.int64), [""] * count

    def header(size: int) -> bytes:
        """Length and JSON, as the format asks for; blanks at the end make room for the largest size."""
        tensors = {
            "encoded": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]},
            "spans": {"dtype": "I64", "shape": [count, 2], "data_offsets": [size, size + spans.nbytes]},
            "__metadata__": {"ntkcl": json.dumps(about, sort_keys=True)},
        }
        return json.dumps(tensors).encode()

    room = len(header(10**15)) + 8 - len(header(10**15)) % 8

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            file.write(bytes(8 + room))
            for row, content in _all_decodable(images, threads):
                start = file.tell() - 8 - room
                file.write(content)
                spans[row] = start, start + len(content)
                checksums[row] = hashlib.sha256(content).hexdigest()
            if not all(checksums):
                raise ValueError(f"no content for image '{images.labels.ids[checksums.index('')]}'")
            file.write(bytes(-file.tell() % 8))
            size = file.tell() - 8 - room
            file.write(spans.tobytes())
            file.seek(0)
            file.write(room.to_bytes(8, "little") + header(size).ljust(room))

    write_atomically(path, write)
    return checksums


def _all_decodable(images: FileSet, threads: int) -> Iterator[tuple[int, bytes]]:
    """The contents, each decoded once to see that it is an image; several at once, and none held for long."""
    waiting: deque[Future] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for row, content in images.contents:
            waiting.append(pool.submit(decode, content, images.labels.ids[row]))
            if len(waiting) > 2 * threads:
                waiting.popleft().result()
            yield row, content
        for future in waiting:
            future.result()


def read_images(folder: Path, digest: str, remedy: str, exif_rotation: bool = True) -> ImageSet | PackedSet:
    """The images that `write_images` wrote into `folder`.

    Arrays are checked against the manifest at once, encoded images each time that one is read.

    Args:
        folder: where the two files lie.
        digest: names the present settings.
        remedy: what a person can do where a file does not fit, as an imperative.
        exif_rotation: turn photographs as their EXIF data say.

    Raises:
        UserError: a file is missing, damaged, or was made with other settings.
    """
    path, manifest = folder / PIXELS, folder / MANIFEST
    about, tensors = checked_metadata(path, FORMAT, VERSION, digest, remedy)
    labels, checksums = read_labels(manifest, remedy, about.get("class_names"))
    try:
        if "encoded" in tensors:
            encoded, spans = _mapped(path)
            if len(spans) != len(labels):
                raise ValueError(f"{len(spans)} images, {len(labels)} rows")
            return PackedSet(labels, encoded, spans, checksums, exif_rotation, remedy)
        images = ImageSet(labels, read_tensors(path, FORMAT, VERSION, digest, remedy)[0]["images"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{manifest} does not fit the images beside it ({error}); {remedy}") from error
    for name, written, found in zip(labels.ids, checksums, _checksums(images.images), strict=True):
        if written != found:
            raise UserError(f"{manifest}: the checksum of image '{name}' does not fit its pixels; {remedy}")
    return images


def read_labels(path: Path, remedy: str, class_names: Iterable[str] | None = None) -> tuple[Labels, list[str]]:
    """The labels in the manifest `path`, and the sha256 of each image.

    Raises:
        UserError: the manifest is missing or damaged.
    """
    rows = _manifest_rows(path, remedy)
    ids, classes, splits, checksums = ([row[column] for row in rows] for column in COLUMNS)
    try:
        return Labels(ids, classes, splits, list(class_names or ())), checksums
    except ValueError as error:
        raise UserError(f"{path} does not fit the images beside it ({error}); {remedy}") from error


def _mapped(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """`encoded` as a view of the file, and `spans`."""
    with path.open("rb") as file:
        room = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(room))
    size = header["encoded"]["shape"][0]
    encoded = np.memmap(path, np.uint8, "r", 8 + room, (size,))
    return encoded, np.fromfile(path, np.int64, offset=8 + room + size).reshape(header["spans"]["shape"])


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


def _checksums(images: Tensor) -> Iterator[str]:
    """The sha256 of each image's bytes."""
    return (hashlib.sha256(image.tobytes()).hexdigest() for image in images.contiguous().numpy())
