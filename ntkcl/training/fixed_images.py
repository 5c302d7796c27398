"""Images that are the same in all epochs: on a CPU, what a learner computes of them without random numbers is kept.

This saves an eighth of the time of a small study. Results are the same, bit by bit: on a CPU, the output for an image
does not depend on the other images of its batch.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from ntkcl.data.loading.batches import ArrayImages
from ntkcl.methods.learner import Learner, Tensors
from ntkcl.tasks import Batches, TaskImages

MAX_BYTES = 2**30  # of the tensors that are kept
IMAGES_PER_PASS = 128  # at least, if there are as many


class FixedImages:
    """Training images that no transform changes: their training batches are outputs of `Learner.fixed_forward`."""

    def __init__(self, learner: Learner, images: ArrayImages) -> None:
        self.learner, self.images, self.fixed = learner, images, ()

    @property
    def labels(self) -> Tensor:
        """Labels of all images, (N,)."""
        return self.images.labels

    def train_batches(self, batch_size: int, skip: int = 0) -> Iterator[tuple[Tensors, Tensor]]:
        """Pass over the images once, in the order of `ArrayImages`."""
        batches = self.images.train_rows(batch_size, skip)
        if not self.fixed:
            passes = torch.arange(len(self.labels)).tensor_split(max(1, len(self.labels) // IMAGES_PER_PASS))
            parts = [fixed_output(self.learner, self.images, rows) for rows in passes]
            self.fixed = tuple(torch.cat(part) for part in zip(*parts, strict=True))
        return ((tuple(part[rows] for part in self.fixed), self.labels[label_rows]) for rows, label_rows in batches)

    def eval_batches(self) -> Batches:
        """Pass over the images once, in order."""
        return self.images.eval_batches()


def with_fixed_images(learner: Learner, images: TaskImages, device: torch.device) -> TaskImages:
    """Return `images` as `FixedImages` if they can be, and otherwise as they are."""
    if device.type != "cpu" or not isinstance(images, ArrayImages):
        return images
    one = fixed_output(learner, images, torch.zeros(1, dtype=torch.long))
    fits = len(images.labels) * sum(part.nbytes for part in one) <= MAX_BYTES
    return FixedImages(learner, images) if fits else images


@torch.no_grad()
def fixed_output(learner: Learner, images: ArrayImages, rows: Tensor) -> Tensors:
    """Compute `Learner.fixed_forward` of the images at these indices."""
    with learner.autocast():
        return learner.fixed_forward(images.batch(rows, rows)[0])
