"""Random changes of grey images, for pre-training on few drawings: place and shape, stroke width, resolution, noise."""

import math

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, interpolate, max_pool2d, pad

from ntkcl.settings.models import Pretraining

KNOTS = 5  # the elastic displacement is sampled at this many points a side and smooth between them


def augment(images: Tensor, settings: Pretraining, generator: torch.Generator) -> Tensor:
    """Change each of `images` (B, C, H, W), in [0, 1], with its own random numbers from `generator`, on the CPU."""
    images = _strokes(images, settings, generator)
    grid = affine_grid(_affine_maps(len(images), settings, generator), list(images.shape), align_corners=False)
    grid = (grid + _displacement(images.shape, settings, generator)).to(images.device)
    images = _blurred(grid_sample(images, grid, align_corners=False), settings, generator)
    deviation = settings.noise * torch.rand(len(images), 1, 1, 1, generator=generator)
    noise = deviation * torch.randn(images.shape, generator=generator)
    return images + noise.to(images.device)


def _strokes(images: Tensor, settings: Pretraining, generator: torch.Generator) -> Tensor:
    """Thicken or thin the strokes of some images by up to a pixel."""
    changed = torch.rand(len(images), 1, 1, 1, generator=generator) < settings.stroke
    amount = changed * (2 * torch.rand(len(images), 1, 1, 1, generator=generator) - 1)
    amount = amount.to(images.device)
    thick = max_pool2d(pad(images, (0, 1, 0, 1)), 2, stride=1)
    thin = -max_pool2d(pad(-images, (0, 1, 0, 1)), 2, stride=1)
    return images + amount.clamp(min=0) * (thick - images) + (-amount).clamp(min=0) * (thin - images)


def _blurred(images: Tensor, settings: Pretraining, generator: torch.Generator) -> Tensor:
    """Blur some images as if they were enlarged from a quarter of the resolution."""
    changed = torch.rand(len(images), 1, 1, 1, generator=generator) < settings.blur
    small = interpolate(images, scale_factor=0.25, mode="area")
    large = interpolate(small, size=images.shape[-2:], mode="bilinear", align_corners=False)
    return torch.where(changed.to(images.device), large, images)


def _affine_maps(count: int, settings: Pretraining, generator: torch.Generator) -> Tensor:
    """Random maps (count, 2, 3) from points of the new image to points of the old one, in half image sides."""

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=generator)

    angle = uniform(-1, 1) * math.radians(settings.rotation)
    shear = uniform(-1, 1) * settings.shear
    zoom = 1 / uniform(*settings.scale)
    x, y = (2 * settings.shift * uniform(-1, 1) for _ in range(2))
    cos, sin = zoom * angle.cos(), zoom * angle.sin()
    first = torch.stack([cos, cos * shear - sin, x], 1)
    second = torch.stack([sin, sin * shear + cos, y], 1)
    return torch.stack([first, second], 1)


def _displacement(shape: torch.Size, settings: Pretraining, generator: torch.Generator) -> Tensor:
    """Smooth random displacements (B, H, W, 2), in half image sides."""
    knots = settings.elastic * torch.randn(shape[0], 2, KNOTS, KNOTS, generator=generator)
    smooth = interpolate(knots, size=shape[-2:], mode="bicubic", align_corners=True)
    return smooth.permute(0, 2, 3, 1)
