"""Encoded images (JPEG, PNG, ...), one after another in one safetensors file.

A shared file system handles one file of 18 GB better than half a million small files.
"""

import hashlib
import json
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ntkcl.data.prepared.decoding import decode, picture_of, printable
from ntkcl.data.prepared.manifest import Manifest, content_digest
from ntkcl.errors import UserError
from ntkcl.progress import tracked
from ntkcl.storage.files import write_atomically

MAX_NAMED_IMAGES = 5  # number of damaged images that an error lists


@dataclass(frozen=True)
class FileSet:
    """Images to pack: `contents` yields (row, encoded image) for each image once, in any order."""

    manifest: Manifest
    contents: Iterable[tuple[int, bytes]]


@dataclass(frozen=True)
class PackedSet:
    """Images in one file: image `row` has the bytes from start to end of `encoded`, with `spans[row]` = (start, end).

    `remedy` is the advice for a damaged image, as an imperative.
    """

    manifest: Manifest
    checksums: list[str]
    encoded: np.ndarray
    spans: np.ndarray
    remedy: str

    def image(self, row: int) -> Image.Image:
        """Decode image `row`.

        Raises:
            UserError: its bytes do not match their checksum, or are not an image.
        """
        content = self._content(row)
        if hashlib.sha256(content).hexdigest() != self.checksums[row]:
            raise UserError(f"image '{self.manifest.ids[row]}' does not match the manifest any more; {self.remedy}")
        return decode(content, self.manifest.ids[row])

    def damage(self, row: int) -> str:
        """Describe the damage of image `row`; an empty text means that it can be trained on."""
        content = self._content(row)
        if hashlib.sha256(content).hexdigest() != self.checksums[row]:
            return "its bytes do not match the manifest"
        try:
            _try(content, self.manifest.ids[row])
        except UserError as error:
            return str(error)
        return ""

    def _content(self, row: int) -> bytes:
        start, end = self.spans[row]
        return self.encoded[start:end].tobytes()


def write_packed(path: Path, images: FileSet, metadata: dict[str, Any], threads: int = 1) -> list[str]:
    """Write `images` to `path`, one after another, without keeping them in memory.

    Args:
        path: the file.
        images: the images; each is decoded once to check it.
        metadata: metadata of the file.
        threads: number of images to decode at the same time.

    Returns:
        sha256 of each image.

    Raises:
        UserError: the file cannot be written, or images cannot be decoded.
    """
    count = len(images.manifest)
    spans, checksums = np.zeros((count, 2), np.int64), [""] * count
    unknown = metadata | {"content": "0" * 16}  # as long as the digest, which is known at the end
    header_size = len(_header(10**15, spans, unknown)) + 8
    header_size -= header_size % 8  # the offset of tensors must be divisible by eight

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            file.write(bytes(8 + header_size))
            for row, content in _all_decodable(images, threads):
                start = file.tell() - 8 - header_size
                file.write(content)
                spans[row] = start, start + len(content)
                checksums[row] = hashlib.sha256(content).hexdigest()
            if not all(checksums):
                raise ValueError(f"no content for image '{images.manifest.ids[checksums.index('')]}'")
            file.write(bytes(-file.tell() % 8))
            size = file.tell() - 8 - header_size
            file.write(spans.tobytes())
            file.seek(0)
            known = metadata | {"content": content_digest(images.manifest, checksums)}
            file.write(header_size.to_bytes(8, "little") + _header(size, spans, known).ljust(header_size))

    write_atomically(path, write)
    return checksums


def read_packed(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return `encoded` as a view of the file, and `spans`.

    Raises:
        ValueError: the file has another format.
    """
    with path.open("rb") as file:
        header_size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(header_size))
    size = header["encoded"]["shape"][0]
    encoded = np.memmap(path, np.uint8, "r", 8 + header_size, (size,))
    return encoded, np.fromfile(path, np.int64, offset=8 + header_size + size).reshape(header["spans"]["shape"])


def _header(size: int, spans: np.ndarray, metadata: dict[str, Any]) -> bytes:
    """Return the JSON header of the safetensors file, for `size` bytes of images. Blanks may follow it."""
    tensors = {
        "encoded": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]},
        "spans": {"dtype": "I64", "shape": list(spans.shape), "data_offsets": [size, size + spans.nbytes]},
        "__metadata__": {"ntkcl": json.dumps(metadata, sort_keys=True)},
    }
    return json.dumps(tensors).encode()


def _try(content: bytes, name: str) -> None:
    """Do with an image what training and prediction do before they crop it.

    Raises:
        UserError: it cannot be done.
    """
    image = decode(content, name)
    try:
        picture_of(image, 3)
    except Exception as error:  # of Pillow, at anything odd
        raise UserError(f"{printable(name)} cannot become a color image ({printable(error)})") from error


def _all_decodable(images: FileSet, threads: int) -> Iterator[tuple[int, bytes]]:
    """Yield the contents, and decode each once to check it, several at the same time."""
    waiting: deque[Future] = deque()
    damages: list[str] = []

    def collect(most: int) -> None:
        while len(waiting) > most:
            if error := waiting.popleft().exception():
                if not isinstance(error, UserError):
                    raise error
                damages.append(str(error))

    with ThreadPoolExecutor(threads) as pool:
        for row, content in tracked(images.contents, "packing", len(images.manifest), "images"):
            waiting.append(pool.submit(_try, content, images.manifest.ids[row]))
            collect(2 * threads)
            yield row, content
        collect(0)
    if damages:
        more = f", and {len(damages) - MAX_NAMED_IMAGES} more" if len(damages) > MAX_NAMED_IMAGES else ""
        raise UserError(f"{'; '.join(damages[:MAX_NAMED_IMAGES])}{more}; repair the originals, or leave them out")
