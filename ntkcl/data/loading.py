"""From images to batches: read, cropped and resized by several threads, always in the same order."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

import torch
from PIL import Image
from torch import Tensor

from ntkcl import parallel
from ntkcl.batches import Batches, on_device
from ntkcl.data.views import DRAWS, evaluation_view, normalized, picture_of, pixels, training_view
from ntkcl.settings import Images

AS_THEY_ARE = Images(train_crop="centre", centre_crop=1, flip=0)
AHEAD = 4  # batches that are made while one is learned


@dataclass(frozen=True)
class ArrayImages:
    """Images held in memory that are seen as they are; batches come on `device`.

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
    settings: Images = AS_THEY_ARE

    def epoch(self, batch_size: int, done: int = 0) -> Batches:
        """One pass in an order drawn from torch's generator."""
        order = parallel.from_first(torch.randperm(len(self.labels))).split(batch_size)[done:]
        return (self._batch(parallel.share(rows), rows) for rows in order)

    def in_order(self, batch_size: int = 256) -> Batches:
        """One pass in order."""
        return (self._batch(rows, rows) for rows in parallel.share(torch.arange(len(self.labels))).split(batch_size))

    def _batch(self, rows: Tensor, labelled: Tensor) -> tuple[Tensor, Tensor]:
        images = normalized(on_device(self.images[rows], self.device), self.settings)
        return images, on_device(self.labels[labelled], self.device)


@dataclass(frozen=True)
class ViewedImages:
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
    settings: Images
    size: int
    channels: int
    device: torch.device
    ids: list[str] = field(default_factory=list)
    threads: int = 1

    def epoch(self, batch_size: int, done: int = 0) -> Batches:
        """One pass in random order, as seen in training."""
        order = parallel.from_first(torch.randperm(len(self.labels)))
        draws = parallel.from_first(torch.rand(len(self.labels), DRAWS))
        batches = [(parallel.share(rows), rows) for rows in order.split(batch_size)[done:]]
        return self._batches(batches, lambda image, row: training_view(image, draws[row], *self._how))

    def in_order(self, batch_size: int = 64) -> Batches:
        """One pass in order, as seen in testing."""
        batches = [(rows, rows) for rows in parallel.share(torch.arange(len(self.labels))).split(batch_size)]
        return self._batches(batches, lambda image, row: evaluation_view(image, *self._how))

    @property
    def _how(self) -> tuple[Images, int]:
        return self.settings, self.size

    def _batches(
        self, batches: list[tuple[Tensor, Tensor]], view: Callable[[Image.Image, int], Image.Image]
    ) -> Batches:
        """Images of the first rows of each pair, and labels of the second."""

        def make(row: int) -> Tensor:
            return pixels(view(picture_of(self.read(row), self.channels, self.settings.exif_rotation), row))

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
                images = normalized(on_device(images, self.device), self.settings)
                yield images, on_device(self.labels[labelled], self.device)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
