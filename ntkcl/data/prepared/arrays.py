"""A prepared dataset as two files: the images, and a manifest with one row per image.

Small images that are published as arrays are stored as arrays, all others as encoded files
(`ntkcl.data.prepared.packed`).
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
    """Images as an array (N, C, H, W), uint8. If they were read from a file, `checksums` has the sha256 of each."""

    manifest: Manifest
    images: Tensor
    checksums: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8 or self.images.ndim != 4:
            raise ValueError(f"images must be uint8 (N, C, H, W), not {self.images.dtype} {tuple(self.images.shape)}")
        if len(self.images) != len(self.manifest):
            raise ValueError(f"{len(self.images)} images have {len(self.manifest)} labels")

    def image(self, row: int) -> Image.Image:
        """Return image `row` as a PIL image."""
        return Image.fromarray(self.images[row].permute(1, 2, 0).squeeze(2).numpy())

    def damage(self, row: int) -> str:
        """Describe the damage of image `row`; an empty text means none."""
        fits = next(_checksums(self.images[row : row + 1])) == self.checksums[row]
        return "" if fits else "its pixels do not match the manifest"


def summary(images: ImageSet | PackedSet) -> dict[str, str | int]:
    """Return the hashes of a dataset, "split" (names, classes, splits) and "content" (images too), and counts."""
    return images.manifest.summary() | {"content": content_digest(images.manifest, images.checksums)}


def write_images(folder: Path, images: ImageSet | FileSet, metadata: dict[str, Any], threads: int = 1) -> None:
    """Write images and manifest into `folder`. Encoded images are decoded by `threads` threads to check them.

    Raises:
        UserError: a file cannot be written, or an encoded image cannot be decoded.
    """
    labels = images.manifest
    metadata = {"format": FORMAT, "version": VERSION, "class_names": labels.class_names} | metadata
    if isinstance(images, ImageSet):
        checksums = list(_checksums(images.images))
        metadata["content"] = content_digest(labels, checksums)
        write_tensors(folder / PIXELS, {"images": images.images.contiguous()}, metadata)
    else:
        checksums = write_packed(folder / PIXELS, images, metadata, threads)
    write_manifest(folder / MANIFEST, labels, checksums)


def read_images(folder: Path, digest: str, remedy: str, check: bool = True) -> ImageSet | PackedSet:
    """Read the images that `write_images` wrote into `folder`.

    Args:
        folder: folder of the two files.
        digest: digest of the current settings.
        remedy: advice for errors, as an imperative.
        check: compare arrays with the manifest at once. Encoded images are compared whenever one is read.

    Raises:
        UserError: a file is missing or damaged, or was written with other settings.
    """
    path, manifest = folder / PIXELS, folder / MANIFEST
    metadata, tensors = checked_metadata(path, FORMAT, VERSION, digest, remedy)
    labels, checksums = read_manifest(manifest, remedy, metadata.get("class_names", ()))
    if metadata.get("content") not in (None, content_digest(labels, checksums)):
        raise UserError(f"{manifest} was damaged or edited: it does not belong to the images next to it; {remedy}")
    try:
        if "encoded" in tensors:
            encoded, spans = read_packed(path)
            if len(spans) != len(labels):
                raise ValueError(f"{len(spans)} images, {len(labels)} rows")
            return PackedSet(labels, checksums, encoded, spans, remedy)
        images = ImageSet(labels, read_tensors(path, FORMAT, VERSION, digest, remedy, check)[0]["images"], checksums)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{manifest} does not match the images next to it ({error}); {remedy}") from error
    found = _checksums(images.images) if check else checksums
    if damaged := [row for row, (a, b) in enumerate(zip(found, checksums, strict=True)) if a != b]:
        name = labels.ids[damaged[0]]
        raise UserError(f"{manifest}: the checksum of image '{name}' does not match its pixels; {remedy}")
    return images


def _checksums(images: Tensor) -> Iterator[str]:
    """Yield the sha256 of each image's bytes."""
    return (hashlib.sha256(image.tobytes()).hexdigest() for image in images.contiguous().numpy())
