"""From a prepared dataset to the images and labels of each task."""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ntkcl import data
from ntkcl.config import Run
from ntkcl.errors import UserError
from ntkcl.methods.learner import Batches
from ntkcl.settings import Task


@dataclass(frozen=True)
class TaskStream:
    """A dataset with its classes in the order in which a run meets them.

    Args:
        images: (N, C, H, W), uint8.
        labels: (N,), positions in the class order.
        is_test: (N,).
        ids: the names of the images.
        classes: the names of the classes, in order.
    """

    images: Tensor
    labels: Tensor
    is_test: Tensor
    ids: list[str]
    classes: list[str]

    @classmethod
    def of(cls, run: Run) -> "TaskStream":
        """The stream of a run: sorted class names, permuted by `numpy.random.RandomState(class_order_seed)`.

        Raises:
            UserError: the prepared dataset is missing or damaged, or has another number of classes than its settings.
        """
        images = data.load(run.dataset_name)
        names = sorted(set(images.classes))
        if len(names) != run.dataset.classes:
            raise UserError(
                f"data/{run.dataset_name} has {len(names)} classes, params/datasets/{run.dataset_name}.yaml says "
                f"{run.dataset.classes}; mend that number"
            )
        order = np.random.RandomState(run.class_order_seed).permutation(len(names))
        classes = [names[index] for index in order]
        position = {name: index for index, name in enumerate(classes)}
        labels = torch.tensor([position[name] for name in images.classes])
        is_test = torch.tensor([split == "test" for split in images.splits])
        return cls(images.images, labels, is_test, images.ids, classes)

    def train_images(self, task: Task, device: torch.device) -> "ArrayImages":
        """The training images of a task."""
        inside = (self.labels >= task.first_class) & (self.labels < task.classes_seen)
        return self._images(inside & ~self.is_test, device)

    def test_images(self, classes: int, device: torch.device) -> "ArrayImages":
        """The test images of the first `classes` classes."""
        return self._images((self.labels < classes) & self.is_test, device)

    def _images(self, chosen: Tensor, device: torch.device) -> "ArrayImages":
        rows = chosen.nonzero()[:, 0]
        return ArrayImages(self.images[rows], self.labels[rows], device, [self.ids[row] for row in rows.tolist()])


@dataclass(frozen=True)
class ArrayImages:
    """Images held in memory; batches come in [0, 1], on `device`.

    Args:
        images: (N, C, H, W), uint8, or floating point in [0, 1].
        labels: (N,), positions in the class order.
        ids: the names of the images.
    """

    images: Tensor
    labels: Tensor
    device: torch.device
    ids: list[str] = field(default_factory=list)

    def epoch(self, batch_size: int) -> Batches:
        """One pass in an order drawn from torch's generator."""
        return map(self._batch, torch.randperm(len(self.labels)).split(batch_size))

    def in_order(self, batch_size: int = 256) -> Batches:
        """One pass in order."""
        return map(self._batch, torch.arange(len(self.labels)).split(batch_size))

    def _batch(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        images, labels = self.images[rows].to(self.device), self.labels[rows].to(self.device)
        return images if images.is_floating_point() else images.float() / 255, labels
