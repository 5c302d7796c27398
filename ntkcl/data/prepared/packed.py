"""Images as they were encoded (JPEG, PNG, ...), one after another in one safetensors file.

A shared file system takes one file of 18 GB better than half a million small ones.
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
from rich.console import Console
from rich.progress import Progress

from ntkcl.data.prepared.decoding import decode
from ntkcl.data.prepared.manifest import Manifest
from ntkcl.errors import UserError
from ntkcl.storage.files import write_atomically

MOST_NAMED = 5  # damaged images that an error names


@dataclass(frozen=True)
class FileSet:
    """Images to be packed: `contents` yields (row, encoded image) once for each, in any order."""

    manifest: Manifest
    contents: Iterable[tuple[int, bytes]]


@dataclass(frozen=True)
class PackedSet:
    """Images in one file: `encoded` (bytes), of which image `row` has `spans[row]` = (start, end).

    `remedy` is what a person can do about a damaged image, as an imperative.
    """

    manifest: Manifest
    checksums: list[str]
    encoded: np.ndarray
    spans: np.ndarray
    remedy: str

    def image(self, row: int) -> Image.Image:
        """Image `row`, decoded.

        Raises:
            UserError: its bytes do not fit their checksum, or are not an image.
        """
        content = self._content(row)
        if hashlib.sha256(content).hexdigest() != self.checksums[row]:
            raise UserError(f"image '{self.manifest.ids[row]}' does not fit the manifest any more; {self.remedy}")
        return decode(content, self.manifest.ids[row])

    def damage(self, row: int) -> str:
        """What is wrong with image `row`, or nothing. Each could be decoded when it was packed."""
        fits = hashlib.sha256(self._content(row)).hexdigest() == self.checksums[row]
        return "" if fits else "its bytes do not fit the manifest"

    def _content(self, row: int) -> bytes:
        start, end = self.spans[row]
        return self.encoded[start:end].tobytes()


def write_packed(path: Path, images: FileSet, about: dict[str, Any], threads: int = 1) -> list[str]:
    """Write `images` to `path` without holding them.

    Args:
        path: the file.
        images: each of them is decoded once, to see that it can be.
        about: what is known about them, for the metadata.
        threads: how many are decoded at once.

    Returns:
        The sha256 of each image.

    Raises:
        UserError: the file cannot be written, or images cannot be decoded.
    """
    count = len(images.manifest)
    spans, checksums = np.zeros((count, 2), np.int64), [""] * count
    room = len(_header(10**15, spans, about)) + 8
    room -= room % 8  # where tensors begin must be divisible by eight

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            file.write(bytes(8 + room))
            for row, content in _all_decodable(images, threads):
                start = file.tell() - 8 - room
                file.write(content)
                spans[row] = start, start + len(content)
                checksums[row] = hashlib.sha256(content).hexdigest()
            if not all(checksums):
                raise ValueError(f"no content for image '{images.manifest.ids[checksums.index('')]}'")
            file.write(bytes(-file.tell() % 8))
            size = file.tell() - 8 - room
            file.write(spans.tobytes())
            file.seek(0)
            file.write(room.to_bytes(8, "little") + _header(size, spans, about).ljust(room))

    write_atomically(path, write)
    return checksums


def read_packed(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """`encoded` as a view of the file, and `spans`.

    Raises:
        ValueError: the file has another form.
    """
    with path.open("rb") as file:
        room = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(room))
    size = header["encoded"]["shape"][0]
    encoded = np.memmap(path, np.uint8, "r", 8 + room, (size,))
    return encoded, np.fromfile(path, np.int64, offset=8 + room + size).reshape(header["spans"]["shape"])


def _header(size: int, spans: np.ndarray, about: dict[str, Any]) -> bytes:
    """The JSON that a safetensors file begins with, for `size` bytes of images. Blanks may follow it."""
    tensors = {
        "encoded": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]},
        "spans": {"dtype": "I64", "shape": list(spans.shape), "data_offsets": [size, size + spans.nbytes]},
        "__metadata__": {"ntkcl": json.dumps(about, sort_keys=True)},
    }
    return json.dumps(tensors).encode()


def _all_decodable(images: FileSet, threads: int) -> Iterator[tuple[int, bytes]]:
    """The contents, each decoded once to see that it is an image; several at once, and none held for long."""
    waiting: deque[Future] = deque()
    damages: list[str] = []

    def collect(most: int) -> None:
        while len(waiting) > most:
            if error := waiting.popleft().exception():
                if not isinstance(error, UserError):
                    raise error
                damages.append(str(error))

    console = Console(stderr=True)
    progress = Progress(console=console, disable=not console.is_terminal, transient=True)
    with progress, ThreadPoolExecutor(threads) as pool:
        for row, content in progress.track(images.contents, total=len(images.manifest), description="packing"):
            waiting.append(pool.submit(decode, content, images.manifest.ids[row]))
            collect(2 * threads)
            yield row, content
        collect(0)
    if damages:
        more = f", and {len(damages) - MOST_NAMED} more" if len(damages) > MOST_NAMED else ""
        raise UserError(f"{'; '.join(damages[:MOST_NAMED])}{more}; mend what they come from, or leave them out")
