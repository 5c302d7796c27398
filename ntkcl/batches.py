"""What goes from data to learners."""

from collections.abc import Iterable
from typing import Protocol

from torch import Tensor

Batches = Iterable[tuple[Tensor, Tensor]]
"""Pairs of images (B, C, H, W), in [0, 1], and labels (B,), positions in the class order."""


class TaskImages(Protocol):
    """The training images of one task."""

    def epoch(self, batch_size: int) -> Batches:
        """One pass in random order, as seen in training."""

    def in_order(self) -> Batches:
        """One pass in order, as seen in testing."""
