"""Images that are decoded once and stay on the device, where they are cropped and resized as Pillow does it."""

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor

from ntkcl.data.loading.batches import AHEAD, TransformedImages
from ntkcl.data.loading.transforms import RANDOM_NUMBERS_PER_IMAGE, picture_of, pixels, random_box
from ntkcl.devices import distributed
from ntkcl.devices.compute import to_device
from ntkcl.settings.models import Interpolation, Preprocessing
from ntkcl.tasks import Batches

MOST_AT_ONCE = 2**23  # pixels of crops that are resized together: about half a gigabyte with all that it takes
SAMPLE, MARGIN = 64, 1.25  # pictures whose sizes let expect those of all; room for what is made of them
HALF = 2**11
WHOLE = HALF**2  # Pillow's weights are whole numbers, in units of 1 / WHOLE


class Span(NamedTuple):
    """What is seen of a picture along one axis, in pixels.

    `length` pixels from `start` on are resized to `resized`; of these, as many as the square has are kept, from `first`
    on, forwards (`step` 1) or backwards (-1: mirrored).
    """

    start: int
    length: int
    resized: int
    first: int = 0
    step: int = 1


class View(NamedTuple):
    """What is seen of the picture that begins with pixel `begin` of the buffer and is `width` pixels wide."""

    begin: int
    width: int
    rows: Span
    columns: Span


@dataclass(frozen=True)
class GpuImages:
    """Pictures that lie decoded on a device, where batches are made of them.

    They are the batches that `ntkcl.data.loading.TransformedImages` makes of the same draws of torch's generator.

    Args:
        buffer: (P, C), uint8: the pixels of all pictures, one picture after another, row by row; on the device.
        begins: the pixel of `buffer` with which each picture begins.
        sizes: height and width of each picture, in pixels.
        labels: (N,), positions in the class order.
        settings: how images are seen.
        size: side of the square that the backbone takes, in pixels.
        ids: the names of the images.
    """

    buffer: Tensor
    begins: list[int]
    sizes: list[tuple[int, int]]
    labels: Tensor
    preprocessing: Preprocessing
    size: int
    ids: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, images: TransformedImages, most_bytes: int) -> "GpuImages | None":
        """The same images on the same device, or nothing if their pixels take more than `most_bytes`.

        Room is made for what a sample of them lets expect, and some more; they go there as they are decoded, as many at
        once as `images` has threads. Batches take room beyond these bytes, see `MOST_AT_ONCE`.

        Raises:
            UserError: a picture is damaged.
        """
        count = len(images.labels)
        sample = [math.prod(images.read(row).size) for row in range(0, count, max(1, count // SAMPLE))]
        expected = math.ceil(sum(sample) / len(sample) * count)
        if expected * images.channels > most_bytes:
            return None
        room = min(most_bytes // images.channels, math.ceil(MARGIN * expected))
        buffer = torch.empty(room, images.channels, dtype=torch.uint8, device=images.device)
        sizes, begins, end = [], [], 0
        for picture in _decoded(images):
            pixels_of_it = picture.flatten(0, 1)
            sizes.append((picture.shape[0], picture.shape[1]))
            begins.append(end)
            end += len(pixels_of_it)
            if end > room:
                return None
            buffer[begins[-1] : end].copy_(pixels_of_it)
        return cls(buffer, begins, sizes, images.labels, images.preprocessing, images.size, images.ids)

    @property
    def device(self) -> torch.device:
        """Where the pictures are and batches come."""
        return self.buffer.device

    def train_batches(self, batch_size: int, skip: int = 0) -> Batches:
        """One pass in random order, as seen in training."""
        order = distributed.broadcast(torch.randperm(len(self.labels)))
        draws = distributed.broadcast(torch.rand(len(self.labels), RANDOM_NUMBERS_PER_IMAGE))
        batches = [(distributed.shard(rows), rows) for rows in order.split(batch_size)[skip:]]
        preprocessing = self.preprocessing
        interpolation = (
            preprocessing.train_interpolation if preprocessing.train_crop == "random" else preprocessing.interpolation
        )
        return self._batches(batches, lambda row: self._training_view(row, draws[row].tolist()), interpolation)

    def eval_batches(self, batch_size: int = 64) -> Batches:
        """One pass in order, as seen in testing."""
        batches = [(rows, rows) for rows in distributed.shard(torch.arange(len(self.labels))).split(batch_size)]
        return self._batches(batches, self._evaluation_view, self.preprocessing.interpolation)

    def _batches(
        self, batches: list[tuple[Tensor, Tensor]], view: Callable[[int], View], interpolation: Interpolation
    ) -> Batches:
        """Images of the first rows of each pair, and labels of the second."""
        mean, std = (  # once a pass: a GPU would be waited for
            torch.tensor(values, dtype=torch.float32, device=self.device)[:, None, None]
            for values in (self.preprocessing.mean, self.preprocessing.std)
        )
        for rows, labelled in batches:
            levels = resampled(self.buffer, [view(row) for row in rows.tolist()], self.size, interpolation)
            yield (levels.div_(255) - mean) / std, to_device(self.labels[labelled], self.device)

    def _training_view(self, row: int, u: list[float]) -> View:
        """What `ntkcl.data.loading.transforms.train_transform` sees of picture `row` with the draws `u`."""
        if self.preprocessing.train_crop == "random":
            top, left, height, width = random_box(*self.sizes[row], u, self.preprocessing)
            view = self._view(row, Span(top, height, self.size), Span(left, width, self.size))
        else:
            view = self._evaluation_view(row)
        if u[-1] >= self.preprocessing.hflip:
            return view
        return view._replace(columns=view.columns._replace(first=view.columns.first + self.size - 1, step=-1))

    def _evaluation_view(self, row: int) -> View:
        """What `ntkcl.data.loading.transforms.eval_transform` sees of picture `row`."""
        short, short_resized = min(self.sizes[row]), round(self.size / self.preprocessing.crop_pct)
        resized = [int(short_resized * length / short) for length in self.sizes[row]]  # as torchvision rounds it
        middle = [round((length - self.size) / 2) for length in resized]
        rows, columns = (Span(0, *axis) for axis in zip(self.sizes[row], resized, middle, strict=True))
        return self._view(row, rows, columns)

    def _view(self, row: int, rows: Span, columns: Span) -> View:
        return View(self.begins[row], self.sizes[row][1], rows, columns)


def resampled(buffer: Tensor, views: Sequence[View], size: int, interpolation: Interpolation) -> Tensor:
    """Views of pictures, as Pillow's `crop` and `resize` make them.

    Args:
        buffer: (P, C), uint8: the pixels of all pictures, on any device.
        views: what is seen, of B pictures of any sizes.
        size: side of the squares, in pixels.
        interpolation: Pillow's filter; bilinear and bicubic are stretched where a picture shrinks.

    Returns:
        (B, C, size, size), float32: grey levels, whole numbers from 0 to 255.
    """
    if not views:
        return torch.empty(0, buffer.shape[1], size, size, dtype=torch.float32, device=buffer.device)
    height = max(size, *(view.rows.length for view in views))
    width = max(size, *(view.columns.length for view in views))
    at_once = max(1, MOST_AT_ONCE // (height * width))
    parts = [views[first : first + at_once] for first in range(0, len(views), at_once)]
    with torch.autocast(buffer.device.type, enabled=False):  # bfloat16 holds no sums of grey levels
        return torch.cat([_resampled(buffer, part, size, interpolation) for part in parts])


def _resampled(buffer: Tensor, views: Sequence[View], size: int, interpolation: Interpolation) -> Tensor:
    """As `resampled`; the crops lie in one tensor, filled up to the largest with pixels that have no weight.

    Widths are resized, then heights. Pictures of which Pillow resizes the height first lie on their side meanwhile.
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
    narrow = _weighed(crops.flatten(1, 2), of_columns).view(*crops.shape[:3], size)
    squares = _weighed(narrow.flatten(2).mT, of_rows).view(len(views), -1, size, size).mT
    return torch.where(is_on_side[..., None, None] == 1, squares.mT, squares) if any(on_side) else squares


def _height_first(view: View) -> bool:
    """Whether Pillow (from 13 on) resizes the height first: if that loses more than twice what the width loses."""
    rows, columns = (span.length - span.resized for span in (view.rows, view.columns))
    return rows > max(0, 2 * columns)


def _weighed(levels: Tensor, weights: Tensor) -> Tensor:
    """Grey levels (B, M, n) times weights (B, n, size), in units of 1 / WHOLE, rounded to grey levels as Pillow does.

    The sums are exact, in any order: a weight is a multiple of HALF and a rest, and float32 holds the sums of grey
    levels times either, which are whole numbers, as well as what is done with these.
    """
    high = (weights / HALF).round()
    sums = levels @ torch.cat([high, weights - HALF * high], 2).float()
    high, low = sums.chunk(2, 2)
    return ((low / HALF).floor_() + high).add_(HALF / 2).div_(HALF).floor_().clamp_(0, 255)


def _axis(
    spans: Sequence[Span], size: int, interpolation: Interpolation, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Of one axis of B pictures: the pixels that are cropped (B, longest), and their weights (B, longest, size).

    The weights, in units of 1 / WHOLE, are those of Pillow's `precompute_coeffs`, in double precision as there. Outside
    of its windows the filters are zero.
    """
    start, length, resized, first, step = to_device(torch.tensor(spans), device).T[..., None]
    pixel = torch.arange(max(span.length for span in spans), device=device)
    cropped = start + torch.minimum(pixel, length - 1)
    if interpolation == "nearest":
        return cropped, (pixel[:, None] == to_device(_nearest(spans, size), device)[:, None]) * WHOLE
    apart = length.double() / resized
    centre = (first + step * torch.arange(size, device=device) + 0.5) * apart
    x = (pixel[:, None] + 0.5 - centre[:, None]).abs() / apart.clamp(min=1)[..., None]
    if interpolation == "bilinear":
        weights = (1 - x).clamp(min=0)
    else:  # Keys' cubic with a = -1/2
        weights = torch.where(x < 1, (1.5 * x - 2.5) * x * x + 1, (((x - 5) * x + 8) * x - 4) * -0.5 * (x < 2))
    weights = weights * (pixel < length)[..., None]
    return cropped, (weights / weights.sum(1, keepdim=True) * WHOLE).round()


def _nearest(spans: Sequence[Span], size: int) -> Tensor:
    """Which pixel of each crop becomes each of those kept, (B, size).

    Pillow adds up distances; where two pixels are equally near, the errors of these sums decide.
    """
    apart = torch.tensor([[span.length / span.resized] for span in spans], dtype=torch.float64)
    first, step = torch.tensor([(span.first, span.step) for span in spans]).T[..., None]
    kept = first + step * torch.arange(size)
    distances = apart.repeat(1, int(kept.max()) + 1)
    distances[:, 0] /= 2
    return distances.cumsum(1).long().gather(1, kept)


def _decoded(images: TransformedImages) -> Iterator[Tensor]:
    """The pictures (H, W, C) in order; a few are decoded ahead."""

    def decode(row: int) -> Tensor:
        picture = picture_of(images.read(row), images.channels, images.preprocessing.exif_rotation)
        return pixels(picture).permute(1, 2, 0)

    pool = ThreadPoolExecutor(images.threads)
    submitted = (pool.submit(decode, row) for row in range(len(images.labels)))
    waiting: deque[Future] = deque(islice(submitted, AHEAD * images.threads))
    try:
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(islice(submitted, 1))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
