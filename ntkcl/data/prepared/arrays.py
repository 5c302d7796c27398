"""The images of a dataset as two files: the pixels, and a manifest with one row per image.

Small images that came as arrays are kept as arrays, all others as they were encoded (`ntkcl.data.prepared.packed`).
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ntkcl.data.prepared.manifest import Manifest, content_digest, read_manifest, write_manifest
from ntkcl.data.prepared.packed import FileSet, PackedSet, read_packed, write_packed
from ntkcl.errors import UserError
from ntkcl.storage.tensors import checked_metadata, read_tensors, write_tensors

FORMAT = "ntkcl-images"
VERSION = 1
PIXELS, MANIFEST = "images.safetensors", "manifest.csv"


@dataclass(frozen=True)
class ImageSet:
    """Images as one array (N, C, H, W), uint8; with the sha256 of each where they were read from a file."""

    manifest: Manifest
    images: Tensor
    checksums: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8 or self.images.ndim != 4:
            raise ValueError(f"images must be uint8 (N, C, H, W), not {self.images.dtype} {tuple(self.images.shape)}")
        if len(self.images) != len(self.manifest):
            raise ValueError(f"{len(self.images)} images have {len(self.manifest)} labels")

    def image(self, row: int) -> Image.Image:
        """Image `row`, as a picture."""
        return Image.fromarray(self.images[row].permute(1, 2, 0).squeeze(2).numpy())

    def damage(self, row: int) -> str:
        """What is wrong with image `row`, or nothing."""
        fits = next(_checksums(self.images[row : row + 1])) == self.checksums[row]
        return "" if fits else "its pixels do not fit the manifest"


def summary(images: ImageSet | PackedSet) -> dict[str, str | int]:
    """What tells a dataset from others: "split" (names, classes, splits), "content" (images too), and counts."""
    return images.manifest.summary() | {"content": content_digest(images.manifest, images.checksums)}


def write_images(folder: Path, images: ImageSet | FileSet, metadata: dict[str, Any], threads: int = 1) -> None:
    """Write the pixels and the manifest into `folder`; encoded images are decoded by `threads` threads to check them.

    Raises:
        UserError: a file cannot be written, or an encoded image cannot be decoded.
    """
    labels = images.manifest
    about = {"format": FORMAT, "version": VERSION, "class_names": labels.class_names} | metadata
    if isinstance(images, ImageSet):
        checksums = list(_checksums(images.images))
        write_tensors(folder / PIXELS, {"images": images.images.contiguous()}, about)
    else:
        checksums = write_packed(folder / PIXELS, images, about, threads)
    write_manifest(folder / MANIFEST, labels, checksums)


def read_images(folder: Path, digest: str, remedy: str, check: bool = True) -> ImageSet | PackedSet:
    """The images that `write_images` wrote into `folder`.

    Args:
        folder: where the two files lie.
        digest: names the present settings.
        remedy: what a person can do where a file does not fit, as an imperative.
        check: compare arrays with the manifest at once; encoded images are compared each time that one is read.

    Raises:
        UserError: a file is missing, damaged, or was made with other settings.
    """
    path, manifest = folder / PIXELS, folder / MANIFEST
    about, tensors = checked_metadata(path, FORMAT, VERSION, digest, remedy)
    labels, checksums = read_manifest(manifest, remedy, about.get("class_names", ()))
    try:
        if "encoded" in tensors:
            encoded, spans = read_packed(path)
            if len(spans) != len(labels):
                raise ValueError(f"{len(spans)} images, {len(labels)} rows")
            return PackedSet(labels, checksums, encoded, spans, remedy)
        images = ImageSet(labels, read_tensors(path, FORMAT, VERSION, digest, remedy)[0]["images"], checksums)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{manifest} does not fit the images beside it ({error}); {remedy}") from error
    found = _checksums(images.images) if check else checksums
    if damaged := [row for row, (a, b) in enumerate(zip(found, checksums, strict=True)) if a != b]:
        name = labels.ids[damaged[0]]
        raise UserError(f"{manifest}: the checksum of image '{name}' does not fit its pixels; {remedy}")
    return images


def _checksums(images: Tensor) -> Iterator[str]:
    """The sha256 of each image's bytes."""
    return (hashlib.sha256(image.tobytes()).hexdigest() for image in images.contiguous().numpy())
