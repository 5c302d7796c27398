"""Handwritten digits from scikit-learn's package: 1,797 grey images of 8x8 pixels in 10 classes."""

from typing import Literal

import torch
from torch.nn.functional import interpolate

from ntkcl.data.prepared.arrays import ImageSet
from ntkcl.data.prepared.manifest import Manifest
from ntkcl.data.sources.common.options import Source
from ntkcl.errors import UserError
from ntkcl.settings.models import Count, Fraction, Model

LARGEST = 16.0  # the grey values of the source are 0..16


class Options(Model):
    """Settings of the digits."""

    size: Count = 32
    test_fraction: Fraction = 0.3
    seed: int = 0
    holdout: Literal["test", "validation"] = "test"
    validation_fraction: Fraction = 0.25


def make(options: Options) -> ImageSet:
    """The digits, enlarged and cut into a training and a test part with equal shares of every class.

    With the holdout "validation" the test images are dropped, and a part of the training images stands in for them:
    for choosing settings without looking at the test images.

    Raises:
        UserError: scikit-learn is missing.
    """
    try:
        from sklearn.datasets import load_digits  # here, because it takes two seconds
    except ImportError as error:
        raise UserError("no scikit-learn, which the digits come with; run `pip install scikit-learn`") from error
    source = load_digits()
    small = torch.from_numpy(source.images).float()[:, None] / LARGEST * 255
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
    """The indices of the images that are used, in their order, and the split of each."""
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
    """`indices` without and with the `fraction` of each class that is held out."""
    kept, held_out = [], []
    for label in labels.unique():
        members = indices[labels[indices] == label]
        members = members[torch.randperm(len(members), generator=generator)]
        count = round(fraction * len(members))
        held_out.append(members[:count])
        kept.append(members[count:])
    return torch.cat(kept), torch.cat(held_out)


SOURCE = Source(Options, make)
