"""Images that are decoded once and stay on the device, where they are cropped and resized exactly as by Pillow."""

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor

from ntkcl.data.loading.batches import PREFETCHED_BATCHES, TransformedImages
from ntkcl.data.loading.transforms import RANDOM_NUMBERS_PER_IMAGE, pixels, random_box
from ntkcl.data.prepared.decoding import picture_of
from ntkcl.devices import distributed
from ntkcl.devices.compute import to_device
from ntkcl.settings.models import Interpolation, Preprocessing
from ntkcl.tasks import Batches

MAX_PIXELS = 2**23  # pixels of crops that are resized together; needs about half a gigabyte
SAMPLE_SIZE, MEMORY_MARGIN = 64, 1.25  # images that estimate the total size; factor of the memory to allocate for it
WEIGHT_SPLIT = 2**11
WEIGHT_SCALE = WEIGHT_SPLIT**2  # Pillow's weights are integers, in units of 1 / WEIGHT_SCALE


class Span(NamedTuple):
    """Crop of an image along one axis, in pixels.

    `length` pixels from `start` on are resized to `resized` pixels. Of these, as many as the square's side are used,
    from `first` on, forwards (`step` 1) or backwards (-1: flipped).
    """

    start: int
    length: int
    resized: int
    first: int = 0
    step: int = 1


class View(NamedTuple):
    """Crop of the image that begins with pixel `begin` of the buffer and is `width` pixels wide."""

    begin: int
    width: int
    rows: Span
    columns: Span


@dataclass(frozen=True)
class GpuImages:
    """Decoded images on a device, where batches are created.

    With the same random numbers, the batches equal those of `ntkcl.data.loading.batches.TransformedImages`.

    Args:
        buffer: (P, C), uint8, on the device: pixels of all images, one image after another, row by row.
        begins: index in `buffer` of the first pixel of each image.
        sizes: height and width of each image, in pixels.
        labels: (N,), positions in the class order.
        preprocessing: settings of the transforms.
        size: side of the backbone's square images, in pixels.
        ids: names of the images.
    """

    buffer: Tensor
    begins: list[int]
    sizes: list[tuple[int, int]]
    labels: Tensor
    preprocessing: Preprocessing
    size: int
    ids: list[str] = field(default_factory=list)

    @classmethod
    def from_images(cls, images: TransformedImages, max_bytes: int) -> "GpuImages | None":
        """Decode `images` on their device; return None if their pixels need more than `max_bytes`.

        The memory is estimated from a sample of the images, with a margin. Images are decoded by the threads of
        `images`. Batches need memory in addition to `max_bytes`, see `MAX_PIXELS`.

        Raises:
            UserError: an image is damaged.
        """
        count = len(images.labels)
        sample = [math.prod(images.read(row).size) for row in range(0, count, max(1, count // SAMPLE_SIZE))]
        expected = math.ceil(sum(sample) / len(sample) * count)
        if expected * images.channels > max_bytes:
            return None
        capacity = min(max_bytes // images.channels, math.ceil(MEMORY_MARGIN * expected))
        buffer = torch.empty(capacity, images.channels, dtype=torch.uint8, device=images.device)
        sizes, begins, end = [], [], 0
        for image in _decoded(images):
            sizes.append((image.shape[0], image.shape[1]))
            begins.append(end)
            end += image.shape[0] * image.shape[1]
            if end > capacity:
                return None
            buffer[begins[-1] : end].copy_(image.flatten(0, 1))
        return cls(buffer, begins, sizes, images.labels, images.preprocessing, images.size, images.ids)

    @property
    def device(self) -> torch.device:
        """Device of the images and of the batches."""
        return self.buffer.device

    def train_batches(self, batch_size: int, skip: int = 0) -> Batches:
        """Pass over the images once, in random order, with the training transform."""
        order = distributed.broadcast(torch.randperm(len(self.labels)))
        numbers = distributed.broadcast(torch.rand(len(self.labels), RANDOM_NUMBERS_PER_IMAGE))
        batches = [(distributed.shard(rows), rows) for rows in order.split(batch_size)[skip:]]
        preprocessing = self.preprocessing
        interpolation = (
            preprocessing.train_interpolation if preprocessing.train_crop == "random" else preprocessing.interpolation
        )
        return self._batches(batches, lambda row: self._training_view(row, numbers[row].tolist()), interpolation)

    def eval_batches(self, batch_size: int = 64) -> Batches:
        """Pass over the images once, in order, with the evaluation transform."""
        batches = [(rows, rows) for rows in distributed.shard(torch.arange(len(self.labels))).split(batch_size)]
        return self._batches(batches, self._evaluation_view, self.preprocessing.interpolation)

    def _batches(
        self, batches: list[tuple[Tensor, Tensor]], view: Callable[[int], View], interpolation: Interpolation
    ) -> Batches:
        """Yield images of the first rows of each pair, and labels of the second."""
        mean, std = (  # once per pass: copying them makes the host wait for the GPU
            torch.tensor(values, dtype=torch.float32, device=self.device)[:, None, None]
            for values in (self.preprocessing.mean, self.preprocessing.std)
        )
        for rows, label_rows in batches:
            levels = resampled(self.buffer, [view(row) for row in rows.tolist()], self.size, interpolation)
            yield (levels.div_(255) - mean) / std, to_device(self.labels[label_rows], self.device)

    def _training_view(self, row: int, u: list[float]) -> View:
        """Crop of image `row` by `transforms.train_transform` with the random numbers `u`."""
        if self.preprocessing.train_crop == "random":
            top, left, height, width = random_box(*self.sizes[row], u, self.preprocessing)
            view = self._view(row, Span(top, height, self.size), Span(left, width, self.size))
        else:
            view = self._evaluation_view(row)
        if u[-1] >= self.preprocessing.hflip:
            return view
        return view._replace(columns=view.columns._replace(first=view.columns.first + self.size - 1, step=-1))

    def _evaluation_view(self, row: int) -> View:
        """Crop of image `row` by `transforms.eval_transform`."""
        short, short_resized = min(self.sizes[row]), round(self.size / self.preprocessing.crop_pct)
        resized = [int(short_resized * length / short) for length in self.sizes[row]]  # as torchvision rounds it
        middle = [round((length - self.size) / 2) for length in resized]
        rows, columns = (Span(0, *axis) for axis in zip(self.sizes[row], resized, middle, strict=True))
        return self._view(row, rows, columns)

    def _view(self, row: int, rows: Span, columns: Span) -> View:
        return View(self.begins[row], self.sizes[row][1], rows, columns)


def resampled(buffer: Tensor, views: Sequence[View], size: int, interpolation: Interpolation) -> Tensor:
    """Crop and resize images, with the same results as Pillow's `crop` and `resize`.

    Args:
        buffer: (P, C), uint8: pixels of all images, on any device.
        views: crops of B images of any sizes.
        size: side of the squares, in pixels.
        interpolation: Pillow's filter; bilinear and bicubic filters are widened if an image shrinks.

    Returns:
        (B, C, size, size), float32: gray levels, integers from 0 to 255.
    """
    if not views:
        return torch.empty(0, buffer.shape[1], size, size, dtype=torch.float32, device=buffer.device)
    height = max(size, *(view.rows.length for view in views))
    width = max(size, *(view.columns.length for view in views))
    at_once = max(1, MAX_PIXELS // (height * width))
    parts = [views[first : first + at_once] for first in range(0, len(views), at_once)]
    with torch.autocast(buffer.device.type, enabled=False):  # bfloat16 cannot represent sums of gray levels
        return torch.cat([_resampled(buffer, part, size, interpolation) for part in parts])


def _resampled(buffer: Tensor, views: Sequence[View], size: int, interpolation: Interpolation) -> Tensor:
    """Like `resampled`, with all crops in one tensor, padded to the largest with pixels of weight 0.

    Widths are resized first, then heights. Images of which Pillow resizes the height first are transposed meanwhile.
    """
    on_side = [_height_first(view) for view in views]
    turned = [(v.columns, v.rows) if side else (v.rows, v.columns) for v, side in zip(views, on_side, strict=True)]
    strides = [
        (v.begin, *((1, v.width) if side else (v.width, 1)), side) for v, side in zip(views, on_side, strict=True)
    ]
    begin, down, across, is_on_side = to_device(torch.tensor(strides), buffer.device).T[..., None]
    rows, of_rows = _axis([axes[0] for axes in turned], size, interpolation, buffer.device)
    columns, of_columns = _axis([axes[1] for axes in turned], size, interpolation, buffer.device)
    where = (begin + down * rows)[:, :, None] + (across * columns)[:, None]
    crops = buffer[where].transpose(2, 3).contiguous().float()  # (B, rows, C, columns)
    narrow = _weighted(crops.flatten(1, 2), of_columns).view(*crops.shape[:3], size)
    squares = _weighted(narrow.flatten(2).mT, of_rows).view(len(views), -1, size, size).mT
    return torch.where(is_on_side[..., None, None] == 1, squares.mT, squares) if any(on_side) else squares


def _height_first(view: View) -> bool:
    """Return whether Pillow (from version 13 on) resizes the height first: if it shrinks twice as much as the width."""
    rows, columns = (span.length - span.resized for span in (view.rows, view.columns))
    return rows > max(0, 2 * columns)


def _weighted(levels: Tensor, weights: Tensor) -> Tensor:
    """Multiply gray levels (B, M, n) with weights (B, n, size) in units of 1 / WEIGHT_SCALE, and round as Pillow does.

    The sums are exact, in any order: a weight is split into a multiple of WEIGHT_SPLIT and a remainder. The sums of
    gray levels times either are integers that float32 represents exactly, as are the results of the steps after them.
    """
    high = (weights / WEIGHT_SPLIT).round()
    sums = levels @ torch.cat([high, weights - WEIGHT_SPLIT * high], 2).float()
    high, low = sums.chunk(2, 2)
    return ((low / WEIGHT_SPLIT).floor_() + high).add_(WEIGHT_SPLIT / 2).div_(WEIGHT_SPLIT).floor_().clamp_(0, 255)


def _axis(
    spans: Sequence[Span], size: int, interpolation: Interpolation, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return the pixels of one axis of B crops (B, longest), and their weights (B, longest, size).

    The weights, in units of 1 / WEIGHT_SCALE, are those of Pillow's `precompute_coeffs`, computed in double precision
    as there. The filters are zero outside their windows.
    """
    start, length, resized, first, step = to_device(torch.tensor(spans), device).T[..., None]
    pixel = torch.arange(max(span.length for span in spans), device=device)
    cropped = start + torch.minimum(pixel, length - 1)
    if interpolation == "nearest":
        return cropped, (pixel[:, None] == to_device(_nearest(spans, size), device)[:, None]) * WEIGHT_SCALE
    spacing = length.double() / resized
    center = (first + step * torch.arange(size, device=device) + 0.5) * spacing
    x = (pixel[:, None] + 0.5 - center[:, None]).abs() / spacing.clamp(min=1)[..., None]
    if interpolation == "bilinear":
        weights = (1 - x).clamp(min=0)
    else:  # Keys' cubic with a = -1/2
        weights = torch.where(x < 1, (1.5 * x - 2.5) * x * x + 1, (((x - 5) * x + 8) * x - 4) * -0.5 * (x < 2))
    weights = weights * (pixel < length)[..., None]
    return cropped, (weights / weights.sum(1, keepdim=True) * WEIGHT_SCALE).round()


def _nearest(spans: Sequence[Span], size: int) -> Tensor:
    """Return the index in each crop of each pixel of the square, (B, size).

    Pillow adds up distances. If two pixels are equally near, the rounding errors of these sums decide.
    """
    spacing = torch.tensor([[span.length / span.resized] for span in spans], dtype=torch.float64)
    first, step = torch.tensor([(span.first, span.step) for span in spans]).T[..., None]
    used = first + step * torch.arange(size)
    distances = spacing.repeat(1, int(used.max()) + 1)
    distances[:, 0] /= 2
    return distances.cumsum(1).long().gather(1, used)


def _decoded(images: TransformedImages) -> Iterator[Tensor]:
    """Yield the images (H, W, C) in order; threads decode a few in advance."""

    def decode(row: int) -> Tensor:
        image = picture_of(images.read(row), images.channels, images.preprocessing.exif_rotation)
        return pixels(image).permute(1, 2, 0)

    pool = ThreadPoolExecutor(images.threads)
    submitted = (pool.submit(decode, row) for row in range(len(images.labels)))
    waiting: deque[Future] = deque(islice(submitted, PREFETCHED_BATCHES * images.threads))
    try:
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(islice(submitted, 1))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
