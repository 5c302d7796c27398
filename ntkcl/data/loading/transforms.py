"""How an image is seen: crops, sizes and mirroring, as torchvision does them and as `ntkcl.settings.Images` says."""

import math

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

from ntkcl.devices.compute import to_device
from ntkcl.settings.models import Preprocessing

ATTEMPTS = 10  # as in torchvision's RandomResizedCrop
RANDOM_NUMBERS_PER_IMAGE = 2 * ATTEMPTS + 3  # random numbers for one training image


def picture_of(image: Image.Image, channels: int, exif_rotation: bool = True) -> Image.Image:
    """`image` in grey or in colour, whatever it was: palette, grey of 8 or 16 bits, CMYK, transparent.

    Args:
        image: any picture.
        channels: 1 (grey) or 3 (colour).
        exif_rotation: turn it as its EXIF data say.
    """
    if exif_rotation:
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):  # Pillow would cut all above 255 off
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image.convert("L" if channels == 1 else "RGB")


def train_transform(image: Image.Image, draws: Tensor, preprocessing: Preprocessing, size: int) -> Image.Image:
    """`image` as seen in training.

    Args:
        image: a picture in grey or in colour.
        draws: (RANDOM_NUMBERS_PER_IMAGE,), uniform in [0, 1).
        settings: how images are seen.
        size: side of the square that the backbone takes, in pixels.
    """
    u = draws.tolist()
    if preprocessing.train_crop == "random":
        box = random_box(image.height, image.width, u, preprocessing)
        image = F.resized_crop(image, *box, [size, size], InterpolationMode(preprocessing.train_interpolation))
    else:
        image = eval_transform(image, preprocessing, size)
    return F.hflip(image) if u[-1] < preprocessing.hflip else image


def eval_transform(image: Image.Image, preprocessing: Preprocessing, size: int) -> Image.Image:
    """`image` as seen in testing: its short side to `size / crop_pct`, then the square in the middle."""
    image = F.resize(image, round(size / preprocessing.crop_pct), InterpolationMode(preprocessing.interpolation))
    return F.center_crop(image, [size, size])


def pixels(image: Image.Image) -> Tensor:
    """The picture as (C, H, W), uint8."""
    array = torch.from_numpy(np.array(image))
    return array[None] if array.ndim == 2 else array.permute(2, 0, 1)


def normalized(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Preprocessing (B, C, H, W), uint8 or in [0, 1], to [0, 1], minus the mean over the standard deviation."""
    images = images if images.is_floating_point() else images.float() / 255
    if set(preprocessing.mean) == {0.0} and set(preprocessing.std) == {1.0}:
        return images
    given = (torch.tensor(values, dtype=images.dtype) for values in (preprocessing.mean, preprocessing.std))
    mean, std = (to_device(values, images.device)[:, None, None] for values in given)
    return (images - mean) / std


def random_box(height: int, width: int, u: list[float], preprocessing: Preprocessing) -> tuple[int, int, int, int]:
    """Top, left, height and width of a random crop, drawn as torchvision's RandomResizedCrop draws it."""
    low, high = (math.log(ratio) for ratio in preprocessing.ratio)
    smallest, largest = preprocessing.scale
    for attempt in range(ATTEMPTS):
        area = height * width * (smallest + (largest - smallest) * u[2 * attempt])
        ratio = math.exp(low + (high - low) * u[2 * attempt + 1])
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            top, left = (min(int(v * (room + 1)), room) for v, room in ((u[-3], height - h), (u[-2], width - w)))
            return top, left, h, w
    narrow, wide = preprocessing.ratio
    w, h = width, height
    if width / height < narrow:
        h = round(w / narrow)
    elif width / height > wide:
        w = round(h * wide)
    return (height - h) // 2, (width - w) // 2, h, w
