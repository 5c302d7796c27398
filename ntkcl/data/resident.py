"""Images that are decoded once and stay on the device, where they are cropped and resized as Pillow does it."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor

from ntkcl import parallel
from ntkcl.batches import Batches
from ntkcl.data.loading import AHEAD, ViewedImages, on_device
from ntkcl.data.views import DRAWS, picture_of, pixels, random_box
from ntkcl.settings import Images, Interpolation

MOST_AT_ONCE = 2**23  # pixels of crops that are resized together: about half a gigabyte with all that it takes
HALF = 2**11
PRECISION = HALF**2  # Pillow's weights are whole numbers, in units of its inverse


class Span(NamedTuple):
    """What is seen of a picture along one axis, in pixels.

    `length` pixels from `start` on are resized to `resized`; of these, every `step`-th from `first` on is kept. A `step`
    of -1 mirrors.
    """

    start: int
    length: int
    resized: int
    first: int = 0
    step: int = 1


class View(NamedTuple):
    """What is seen of a picture that is `width` pixels wide and begins with pixel `begin` of the buffer."""

    begin: int
    width: int
    rows: Span
    columns: Span


@dataclass(frozen=True)
class ResidentImages:
    """Pictures that lie on a device, decoded; batches are made there.

    They are the batches of `ntkcl.data.loading.ViewedImages`, from the same draws of torch's generator. Very few pixels
    differ, by one grey level: Pillow adds integers, a GPU floating point numbers.

    Args:
        pixels: (P, C), uint8: all pixels of all pictures, row by row, on the device.
        sizes: height and width of each picture, in pixels.
        begins: where in `pixels` each picture begins.
        labels: (N,), positions in the class order.
        settings: how images are seen.
        size: side of the square that the backbone takes, in pixels.
        ids: the names of the images.
    """

    pixels: Tensor
    sizes: list[tuple[int, int]]
    begins: list[int]
    labels: Tensor
    settings: Images
    size: int
    ids: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, images: ViewedImages, most_bytes: int) -> "ResidentImages | None":
        """The same images, decoded by their threads and put on their device; none if that takes over `most_bytes`.

        Decoding ends as soon as they do not fit. A batch takes room beyond these bytes, see `MOST_AT_ONCE`.
        """
        pictures, taken = [], 0
        for picture in _decoded(images):
            pictures.append(picture)
            taken += picture.numel()
            if taken > most_bytes:
                return None
        sizes = [(picture.shape[0], picture.shape[1]) for picture in pictures]
        areas = [height * width for height, width in sizes]
        buffer = torch.empty(sum(areas), images.channels, dtype=torch.uint8, device=images.device)
        for place, picture in zip(buffer.split(areas), pictures, strict=True):  # never twice on the device
            place.copy_(picture.flatten(0, 1))
        begins = [0, *torch.tensor(areas).cumsum(0).tolist()][:-1]
        return cls(buffer, sizes, begins, images.labels, images.settings, images.size, images.ids)

    @property
    def device(self) -> torch.device:
        """Where batches come."""
        return self.pixels.device

    def epoch(self, batch_size: int, done: int = 0) -> Batches:
        """One pass in random order, as seen in training."""
        order = parallel.from_first(torch.randperm(len(self.labels)))
        draws = parallel.from_first(torch.rand(len(self.labels), DRAWS))
        batches = [(parallel.share(rows), rows) for rows in order.split(batch_size)[done:]]
        is_random = self.settings.train_crop == "random"
        interpolation = self.settings.train_interpolation if is_random else self.settings.interpolation
        return self._batches(batches, lambda row: self._training_view(row, draws[row].tolist()), interpolation)

    def in_order(self, batch_size: int = 64) -> Batches:
        """One pass in order, as seen in testing."""
        batches = [(rows, rows) for rows in parallel.share(torch.arange(len(self.labels))).split(batch_size)]
        return self._batches(batches, self._evaluation_view, self.settings.interpolation)

    def _batches(
        self, batches: list[tuple[Tensor, Tensor]], view: Callable[[int], View], interpolation: Interpolation
    ) -> Batches:
        """Images of the first rows of each pair, and labels of the second."""
        # once a pass, because what is made of Python's numbers waits for a GPU
        mean, std = (
            torch.tensor(values, dtype=torch.float32, device=self.device)[:, None, None]
            for values in (self.settings.mean, self.settings.std)
        )
        for rows, labelled in batches:
            levels = resampled(self.pixels, [view(row) for row in rows.tolist()], self.size, interpolation)
            yield (levels / 255 - mean) / std, on_device(self.labels[labelled], self.device)

    def _training_view(self, row: int, u: list[float]) -> View:
        """What `ntkcl.data.views.training_view` sees of picture `row` with the draws `u`."""
        if self.settings.train_crop == "random":
            top, left, height, width = random_box(*self.sizes[row], u, self.settings)
            view = self._view(row, Span(top, height, self.size), Span(left, width, self.size))
        else:
            view = self._evaluation_view(row)
        if u[-1] >= self.settings.flip:
            return view
        return view._replace(columns=view.columns._replace(first=view.columns.first + self.size - 1, step=-1))

    def _evaluation_view(self, row: int) -> View:
        """What `ntkcl.data.views.evaluation_view` sees of picture `row`."""
        short, small = min(self.sizes[row]), round(self.size / self.settings.centre_crop)
        spans = []
        for length in self.sizes[row]:
            resized = int(small * length / short)  # as torchvision rounds it, and the middle too
            spans.append(Span(0, length, resized, round((resized - self.size) / 2)))
        return self._view(row, *spans)

    def _view(self, row: int, rows: Span, columns: Span) -> View:
        return View(self.begins[row], self.sizes[row][1], rows, columns)


def resampled(pixels: Tensor, views: Sequence[View], size: int, interpolation: Interpolation) -> Tensor:
    """Views of pictures, as Pillow's `crop`, `resize` and `crop` make them, up to one grey level.

    Args:
        pixels: (P, C), uint8: the pixels of all pictures, on any device.
        views: of B pictures.
        size: side of the squares, in pixels.
        interpolation: Pillow's filter. All but nearest are stretched where a picture shrinks.

    Returns:
        (B, C, size, size), float32: grey levels, whole numbers from 0 to 255.
    """
    if not views:
        return torch.empty(0, pixels.shape[1], size, size, device=pixels.device, dtype=torch.float32)
    largest = max(view.rows.length for view in views) * max(view.columns.length for view in views)
    at_once = max(1, MOST_AT_ONCE // largest)
    parts = [views[first : first + at_once] for first in range(0, len(views), at_once)]
    with torch.autocast(pixels.device.type, enabled=False):  # grey levels need more than the 8 bits of bfloat16
        return torch.cat([_resampled(pixels, part, size, interpolation) for part in parts])


def _resampled(pixels: Tensor, views: Sequence[View], size: int, interpolation: Interpolation) -> Tensor:
    """As `resampled`; the crops lie in one tensor, filled up to the largest with pixels that have no weight.

    Pictures of which Pillow resizes the height first are turned on their side here, and back in the end.
    """
    turned = [_height_first(view) for view in views]
    pairs = [(v.rows, v.columns) if turn else (v.columns, v.rows) for v, turn in zip(views, turned, strict=True)]
    offsets = [(v.begin, *((v.width, 1) if turn else (1, v.width))) for v, turn in zip(views, turned, strict=True)]
    begin, stride, other_stride = on_device(torch.tensor(offsets), pixels.device).T[..., None]
    place, weights = _axis([first for first, _ in pairs], size, interpolation, pixels.device)
    other_place, other_weights = _axis([second for _, second in pairs], size, interpolation, pixels.device)
    where = (begin + other_place * other_stride)[:, :, None] + (place * stride)[:, None]
    crops = pixels[where].transpose(2, 3).to(torch.float32, memory_format=torch.contiguous_format)
    lines = _weighed(crops.flatten(1, 2), weights.mT).view(*crops.shape[:3], size)
    squares = _weighed(lines.flatten(2).mT, other_weights.mT).view(len(views), -1, size, size).mT
    if not any(turned):
        return squares
    return torch.where(on_device(torch.tensor(turned), pixels.device)[:, None, None, None], squares.mT, squares)


def _height_first(view: View) -> bool:
    """Whether Pillow (from 13 on) resizes the height before the width: if it shrinks by more than twice as much."""
    fewer_rows, fewer_columns = (span.length - span.resized for span in (view.rows, view.columns))
    return fewer_rows > max(0, 2 * fewer_columns)


def _weighed(levels: Tensor, weights: Tensor) -> Tensor:
    """Grey levels (B, M, n) times weights (B, n, size), in units of 1 / PRECISION, rounded to grey levels as Pillow does.

    The sums are exact, whatever their order: each weight is a multiple of HALF and a rest of less, and products of either
    with grey levels add up to whole numbers that float32 holds (so does TF32 each factor).
    """
    high = (weights / HALF).round()
    high, low = (levels @ torch.cat([high, weights - HALF * high], 2).float()).chunk(2, 2)
    return ((low / HALF).floor_() + high).add_(HALF / 2).div_(HALF).floor_().clamp_(0, 255)


def _axis(
    spans: Sequence[Span], size: int, interpolation: Interpolation, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Along one axis of B pictures: which pixels are cropped (B, longest), and their weights (B, size, longest).

    The weights are those of Pillow's `precompute_coeffs`. Its window needs no mention: it holds all weights that are not
    zero. Distances are kept as whole numbers, in units of half a pixel over `resized`, until they are small.
    """
    start, length, resized, first, step = on_device(torch.tensor(spans), device).T[..., None]
    pixel = torch.arange(max(span.length for span in spans), device=device)
    cropped = start + torch.minimum(pixel, length - 1)
    if interpolation == "nearest":
        return cropped, (on_device(_nearest(spans, size), device)[..., None] == pixel) * PRECISION
    kept = first + step * torch.arange(size, device=device)
    centre = (kept + 0.5) * (length.double() / resized)
    x = (pixel + 0.5 - centre[..., None]).abs() / (length.double() / resized).clamp(min=1)[..., None]
    if interpolation == "bilinear":
        weights = (1 - x).clamp(min=0)
    else:  # Keys' cubic with a = -1/2
        weights = torch.where(x < 1, (1.5 * x - 2.5) * x * x + 1, (((x - 5) * x + 8) * x - 4) * -0.5 * (x < 2))
    weights = weights * (pixel < length)[:, None]
    weights = weights / weights.sum(2, keepdim=True)
    return cropped, (weights * PRECISION).round()


def _nearest(spans: Sequence[Span], size: int) -> Tensor:
    """Which pixel of each crop becomes each pixel of the square, (B, size).

    Pillow adds up the distance of pixels, in double precision; where two are equally near, its errors decide.
    """
    distance = torch.tensor([span.length / span.resized for span in spans], dtype=torch.float64)
    first, step = torch.tensor([(span.first, span.step) for span in spans]).T[..., None]
    kept = first + step * torch.arange(size)
    distances = distance[:, None].repeat(1, int(kept.max()) + 1)
    distances[:, 0] /= 2
    return distances.cumsum(1).long().gather(1, kept)


def _decoded(images: ViewedImages) -> Iterator[Tensor]:
    """The pictures (H, W, C) in order; a few are decoded ahead."""

    def decode(row: int) -> Tensor:
        picture = picture_of(images.read(row), images.channels, images.settings.exif_rotation)
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
