"""Handwritten digits from scikit-learn's package: 1,797 grayscale images of 8x8 pixels in 10 classes."""

from typing import Literal

import torch
from pydantic import Field
from torch.nn.functional import interpolate

from ntkcl.data.prepared.arrays import ImageSet
from ntkcl.data.prepared.manifest import Manifest
from ntkcl.data.sources.common.options import Source
from ntkcl.errors import UserError
from ntkcl.settings.models import Count, Fraction, Model

MAX_GRAY = 16.0  # gray values of the source are 0..16


class Options(Model):
    """Options of the digits."""

    size: Count = Field(32, description="side of the images in pixels; the originals have 8")
    test_fraction: Fraction = Field(0.3, description="fraction of each class for testing")
    seed: int = Field(0, description="seed of the split")
    holdout: Literal["test", "validation"] = Field(
        "test", description="validation: drop the test images, and hold out training images in their place"
    )
    validation_fraction: Fraction = Field(0.25, description="fraction of the training images held out for validation")


def make(options: Options) -> ImageSet:
    """Return the digits, enlarged, with a split that has the same fraction of every class.

    With the holdout "validation" the test images are dropped, and some of the training images replace them: for
    choosing settings without the test images.

    Raises:
        UserError: scikit-learn is missing.
    """
    try:
        from sklearn.datasets import load_digits  # here, because it takes two seconds
    except ImportError as error:
        raise UserError("the digits need scikit-learn; run `pip install scikit-learn`") from error
    source = load_digits()
    small = torch.from_numpy(source.images).float()[:, None] / MAX_GRAY * 255
    images = interpolate(small, size=options.size, mode="bilinear", align_corners=False).round().to(torch.uint8)
    labels = torch.from_numpy(source.target)
    chosen, splits = _split(labels, options)
    return ImageSet(
        Manifest(
            [f"digit{index:04d}" for index in chosen.tolist()],
            [str(label) for label in labels[chosen].tolist()],
            splits,
        ),
        images[chosen],
    )


def _split(labels: torch.Tensor, options: Options) -> tuple[torch.Tensor, list[str]]:
    """Return the indices of the images in use, in order, and the split of each."""
    generator = torch.Generator().manual_seed(options.seed)
    everything = torch.arange(len(labels))
    train, test = _stratified(everything, labels, options.test_fraction, generator)
    if options.holdout == "validation":
        train, test = _stratified(train, labels, options.validation_fraction, generator)
    chosen = torch.cat([train, test]).sort().values
    is_test = torch.isin(chosen, test).tolist()
    return chosen, ["test" if held_out else "train" for held_out in is_test]


def _stratified(
    indices: torch.Tensor, labels: torch.Tensor, fraction: float, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Divide `indices` into the images to keep, and the `fraction` of each class to hold out."""
    kept, held_out = [], []
    for label in labels.unique():
        members = indices[labels[indices] == label]
        members = members[torch.randperm(len(members), generator=generator)]
        count = round(fraction * len(members))
        held_out.append(members[:count])
        kept.append(members[count:])
    return torch.cat(kept), torch.cat(held_out)


SOURCE = Source(Options, make)
