"""Transforms of an image by `Preprocessing`: crop, resizing and flip, with the results of torchvision."""

import math

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

from ntkcl.devices.compute import to_device
from ntkcl.settings.models import Preprocessing

MAX_ASPECT = 32  # long / short side of an image that is resized as a whole
CROP_ATTEMPTS = 10  # as in torchvision's RandomResizedCrop
RANDOM_NUMBERS_PER_IMAGE = 2 * CROP_ATTEMPTS + 3  # of the training transform


def train_transform(image: Image.Image, numbers: Tensor, preprocessing: Preprocessing, size: int) -> Image.Image:
    """Transform `image` for training.

    Args:
        image: a grayscale or color image.
        numbers: (RANDOM_NUMBERS_PER_IMAGE,), uniform in [0, 1).
        preprocessing: settings of the transform.
        size: side of the backbone's square images, in pixels.
    """
    u = numbers.tolist()
    if preprocessing.train_crop == "random":
        box = random_box(image.height, image.width, u, preprocessing)
        image = F.resized_crop(image, *box, [size, size], InterpolationMode(preprocessing.train_interpolation))
    else:
        image = eval_transform(image, preprocessing, size)
    return F.hflip(image) if u[-1] < preprocessing.hflip else image


def eval_transform(image: Image.Image, preprocessing: Preprocessing, size: int) -> Image.Image:
    """Transform `image` for evaluation: resize its short side to `size / crop_pct`, then crop the center square."""
    image = _center_of(image)
    image = F.resize(image, round(size / preprocessing.crop_pct), InterpolationMode(preprocessing.interpolation))
    return F.center_crop(image, [size, size])


def _center_of(image: Image.Image) -> Image.Image:
    """The middle of a very long image, of which the rest is cropped anyway; without it, resizing takes gigabytes."""
    short, long = sorted(image.size)
    if long <= MAX_ASPECT * short:
        return image
    offset = (long - MAX_ASPECT * short) // 2
    first, last = offset, long - offset
    return image.crop((first, 0, last, short) if image.width > image.height else (0, first, short, last))


def pixels(image: Image.Image) -> Tensor:
    """Return the image as (C, H, W), uint8."""
    array = torch.from_numpy(np.array(image))
    return array[None] if array.ndim == 2 else array.permute(2, 0, 1)


def normalized(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Map images (B, C, H, W), uint8 or in [0, 1], to [0, 1], subtract the mean and divide by the deviation."""
    images = images if images.is_floating_point() else images.float() / 255
    if set(preprocessing.mean) == {0.0} and set(preprocessing.std) == {1.0}:
        return images
    given = (torch.tensor(values, dtype=images.dtype) for values in (preprocessing.mean, preprocessing.std))
    mean, std = (to_device(values, images.device)[:, None, None] for values in given)
    return (images - mean) / std


def random_box(height: int, width: int, u: list[float], preprocessing: Preprocessing) -> tuple[int, int, int, int]:
    """Return top, left, height and width of a random crop, computed as in torchvision's RandomResizedCrop."""
    low, high = (math.log(ratio) for ratio in preprocessing.ratio)
    smallest, largest = preprocessing.scale
    for attempt in range(CROP_ATTEMPTS):
        area = height * width * (smallest + (largest - smallest) * u[2 * attempt])
        ratio = math.exp(low + (high - low) * u[2 * attempt + 1])
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            top, left = (min(int(v * (most + 1)), most) for v, most in ((u[-3], height - h), (u[-2], width - w)))
            return top, left, h, w
    narrow, wide = preprocessing.ratio
    w, h = width, height
    if width / height < narrow:
        h = round(w / narrow)
    elif width / height > wide:
        w = round(h * wide)
    return (height - h) // 2, (width - w) // 2, h, w
