"""From a prepared dataset to the images and labels of each task."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ntkcl import data
from ntkcl.config import Run
from ntkcl.errors import UserError
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

    def train_rows(self, task: Task) -> Tensor:
        """Rows of the training images of a task's classes."""
        inside = (self.labels >= task.first_class) & (self.labels < task.classes_seen)
        return (inside & ~self.is_test).nonzero()[:, 0]

    def test_rows(self, classes: int) -> Tensor:
        """Rows of the test images of the first `classes` classes."""
        return ((self.labels < classes) & self.is_test).nonzero()[:, 0]
