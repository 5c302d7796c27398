"""What goes from data to learners."""

from collections.abc import Iterable
from typing import Protocol

import torch
from torch import Tensor

Batches = Iterable[tuple[Tensor, Tensor]]
"""Pairs of images (B, C, H, W), in [0, 1], and labels (B,), positions in the class order."""


class TaskImages(Protocol):
    """The training images of one task; each of several processes (`ntkcl.parallel`) gets its share."""

    def epoch(self, batch_size: int, done: int = 0) -> Batches:
        """One pass in random order, as seen in training: the process's share of each batch, and all of its labels.

        All that is random is drawn before this returns, not when batches are taken.

        Args:
            batch_size: images of a batch, of all processes together.
            done: how many batches to leave out, at the beginning.
        """

    def in_order(self) -> Batches:
        """One pass in order, as seen in testing, over the process's share of the images; at least one batch."""


def on_device(tensor: Tensor, device: torch.device) -> Tensor:
    """`tensor` on `device`; a GPU gets it while it computes, and nobody waits."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
