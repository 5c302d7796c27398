"""Batches of images, which several threads read, crop and resize, in a fixed order."""

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
    pixels,
    train_transform,
)
from ntkcl.data.prepared.decoding import picture_of
from ntkcl.devices import distributed
from ntkcl.devices.compute import to_device
from ntkcl.settings.models import Preprocessing
from ntkcl.tasks import Batches

NO_CHANGE = Preprocessing(train_crop="center", crop_pct=1, hflip=0)
PREFETCHED_BATCHES = 4  # number of batches that are prepared while one is trained on


@dataclass(frozen=True)
class ArrayImages:
    """Images in memory that need no crop and no resizing. Batches are on `device`.

    Args:
        images: (N, C, H, W), uint8, or floating point in [0, 1].
        labels: (N,), positions in the class order.
        device: device of the batches.
        ids: names of the images.
        preprocessing: only mean and standard deviation are used.
    """

    images: Tensor
    labels: Tensor
    device: torch.device
    ids: list[str] = field(default_factory=list)
    preprocessing: Preprocessing = NO_CHANGE

    def train_batches(self, batch_size: int, skip: int = 0) -> Batches:
        """Pass over the images once, in an order from torch's generator."""
        return (self.batch(*rows) for rows in self.train_rows(batch_size, skip))

    def train_rows(self, batch_size: int, skip: int = 0) -> list[tuple[Tensor, Tensor]]:
        """Indices of the images and of the labels of all batches, in an order from torch's generator."""
        order = distributed.broadcast(torch.randperm(len(self.labels))).split(batch_size)[skip:]
        return [(distributed.shard(rows), rows) for rows in order]

    def eval_batches(self, batch_size: int = 256) -> Batches:
        """Pass over the images once, in order."""
        return (self.batch(rows, rows) for rows in distributed.shard(torch.arange(len(self.labels))).split(batch_size))

    def batch(self, rows: Tensor, label_rows: Tensor) -> tuple[Tensor, Tensor]:
        """Preprocessed images and labels at these indices."""
        images = normalized(to_device(self.images[rows], self.device), self.preprocessing)
        return images, to_device(self.labels[label_rows], self.device)


@dataclass(frozen=True)
class TransformedImages:
    """Images that are read and transformed when they are needed. Batches are on `device`.

    All random numbers of a pass come from torch's generator at its start. So the batches do not depend on threads.

    Args:
        read: function that returns the image at an index into `labels`.
        labels: (N,), positions in the class order.
        preprocessing: settings of the transforms.
        size: side of the backbone's square images, in pixels.
        channels: 1 (grayscale) or 3 (color).
        device: device of the batches.
        ids: names of the images.
        threads: number of images to transform at the same time.
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
        """Pass over the images once, in random order, with the training transform."""
        order = distributed.broadcast(torch.randperm(len(self.labels)))
        numbers = distributed.broadcast(torch.rand(len(self.labels), RANDOM_NUMBERS_PER_IMAGE))
        batches = [(distributed.shard(rows), rows) for rows in order.split(batch_size)[skip:]]
        return self._batches(batches, lambda image, row: train_transform(image, numbers[row], *self._options))

    def eval_batches(self, batch_size: int = 64) -> Batches:
        """Pass over the images once, in order, with the evaluation transform."""
        batches = [(rows, rows) for rows in distributed.shard(torch.arange(len(self.labels))).split(batch_size)]
        return self._batches(batches, lambda image, row: eval_transform(image, *self._options))

    @property
    def _options(self) -> tuple[Preprocessing, int]:
        return self.preprocessing, self.size

    def _batches(
        self, batches: list[tuple[Tensor, Tensor]], transform: Callable[[Image.Image, int], Image.Image]
    ) -> Batches:
        """Yield images of the first rows of each pair, and labels of the second."""

        def load(row: int) -> Tensor:
            return pixels(transform(picture_of(self.read(row), self.channels, self.preprocessing.exif_rotation), row))

        pool = ThreadPoolExecutor(self.threads)
        submitted = (([pool.submit(load, row) for row in rows.tolist()], label_rows) for rows, label_rows in batches)
        waiting: deque[tuple[list[Future], Tensor]] = deque()
        try:
            waiting.extend(islice(submitted, PREFETCHED_BATCHES))
            while waiting:
                futures, label_rows = waiting.popleft()
                waiting.extend(islice(submitted, 1))
                nothing = torch.empty(0, self.channels, self.size, self.size, dtype=torch.uint8)
                images = torch.stack([future.result() for future in futures]) if futures else nothing
                images = normalized(to_device(images, self.device), self.preprocessing)
                yield images, to_device(self.labels[label_rows], self.device)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
