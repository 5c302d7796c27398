"""From images to batches: read, cropped and resized by several threads, always in the same order."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

import torch
from PIL import Image
from torch import Tensor

from ntkcl.data.loading.transforms import (
    RANDOM_NUMBERS_PER_IMAGE,
    eval_transform,
    normalized,
    picture_of,
    pixels,
    train_transform,
)
from ntkcl.devices import distributed
from ntkcl.devices.compute import to_device
from ntkcl.settings.models import Preprocessing
from ntkcl.tasks import Batches

AS_THEY_ARE = Preprocessing(train_crop="center", crop_pct=1, hflip=0)
AHEAD = 4  # batches that are made while one is learned


@dataclass(frozen=True)
class ArrayImages:
    """Preprocessing held in memory that are seen as they are; batches come on `device`.

    Args:
        images: (N, C, H, W), uint8, or floating point in [0, 1].
        labels: (N,), positions in the class order.
        ids: the names of the images.
        settings: how images are seen: here mean and standard deviation alone.
    """

    images: Tensor
    labels: Tensor
    device: torch.device
    ids: list[str] = field(default_factory=list)
    preprocessing: Preprocessing = AS_THEY_ARE

    def train_batches(self, batch_size: int, skip: int = 0) -> Batches:
        """One pass in an order drawn from torch's generator."""
        order = distributed.broadcast(torch.randperm(len(self.labels))).split(batch_size)[skip:]
        return (self._batch(distributed.shard(rows), rows) for rows in order)

    def eval_batches(self, batch_size: int = 256) -> Batches:
        """One pass in order."""
        return (self._batch(rows, rows) for rows in distributed.shard(torch.arange(len(self.labels))).split(batch_size))

    def _batch(self, rows: Tensor, labelled: Tensor) -> tuple[Tensor, Tensor]:
        images = normalized(to_device(self.images[rows], self.device), self.preprocessing)
        return images, to_device(self.labels[labelled], self.device)


@dataclass(frozen=True)
class TransformedImages:
    """Pictures that are read and cropped when they are needed; batches come on `device`.

    All that is random is drawn from torch's generator at the start of a pass: the batches do not depend on threads.

    Args:
        read: the picture of an index into `labels`.
        labels: (N,), positions in the class order.
        settings: how images are seen.
        size: side of the square that the backbone takes, in pixels.
        channels: 1 (grey) or 3 (colour).
        ids: the names of the images.
        threads: how many images are made at once.
    """

    read: Callable[[int], Image.Image]
    labels: Tensor
    preprocessing: Preprocessing
    size: int
    channels: int
    device: torch.device
    ids: list[str] = field(default_factory=list)
    threads: int = 1

    def train_batches(self, batch_size: int, skip: int = 0) -> Batches:
        """One pass in random order, as seen in training."""
        order = distributed.broadcast(torch.randperm(len(self.labels)))
        draws = distributed.broadcast(torch.rand(len(self.labels), RANDOM_NUMBERS_PER_IMAGE))
        batches = [(distributed.shard(rows), rows) for rows in order.split(batch_size)[skip:]]
        return self._batches(batches, lambda image, row: train_transform(image, draws[row], *self._how))

    def eval_batches(self, batch_size: int = 64) -> Batches:
        """One pass in order, as seen in testing."""
        batches = [(rows, rows) for rows in distributed.shard(torch.arange(len(self.labels))).split(batch_size)]
        return self._batches(batches, lambda image, row: eval_transform(image, *self._how))

    @property
    def _how(self) -> tuple[Preprocessing, int]:
        return self.preprocessing, self.size

    def _batches(
        self, batches: list[tuple[Tensor, Tensor]], view: Callable[[Image.Image, int], Image.Image]
    ) -> Batches:
        """Images of the first rows of each pair, and labels of the second."""

        def make(row: int) -> Tensor:
            return pixels(view(picture_of(self.read(row), self.channels, self.preprocessing.exif_rotation), row))

        pool = ThreadPoolExecutor(self.threads)
        submitted = (([pool.submit(make, row) for row in rows.tolist()], labelled) for rows, labelled in batches)
        waiting: deque[tuple[list[Future], Tensor]] = deque()
        try:
            waiting.extend(islice(submitted, AHEAD))
            while waiting:
                futures, labelled = waiting.popleft()
                waiting.extend(islice(submitted, 1))
                nothing = torch.empty(0, self.channels, self.size, self.size, dtype=torch.uint8)
                images = torch.stack([future.result() for future in futures]) if futures else nothing
                images = normalized(to_device(images, self.device), self.preprocessing)
                yield images, to_device(self.labels[labelled], self.device)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
