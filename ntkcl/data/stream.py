"""From a prepared dataset to the images and labels of each task."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ntkcl import data
from ntkcl.config import Run
from ntkcl.data.images import ImageSet, summary
from ntkcl.data.loading import ArrayImages, ViewedImages
from ntkcl.data.packed import PackedSet
from ntkcl.data.resident import ResidentImages
from ntkcl.errors import UserError
from ntkcl.settings import Architecture, Images, Task

SHARE_FOR_IMAGES = 0.25  # of the GPU's free memory that a task's decoded images may take


@dataclass(frozen=True)
class TaskStream:
    """A dataset with its classes in the order in which a run meets them.

    Args:
        images: the dataset.
        labels: (N,), positions in the class order.
        is_test: (N,).
        is_train: (N,).
        classes: the names of the classes, in order.
        settings: how images are seen.
        architecture: of the backbone that takes the images.
    """

    images: ImageSet | PackedSet
    labels: Tensor
    is_test: Tensor
    is_train: Tensor
    classes: list[str]
    settings: Images
    architecture: Architecture

    @classmethod
    def of(cls, run: Run) -> "TaskStream":
        """The stream of a run: the dataset's classes, permuted by `numpy.random.RandomState(class_order_seed)`.

        Raises:
            UserError: the prepared dataset is missing or damaged, or has another number of classes than its settings.
        """
        images = data.load(run.dataset_name)
        names = images.labels.class_names
        if len(names) != run.dataset.classes:
            raise UserError(
                f"data/{run.dataset_name} has {len(names)} classes, params/datasets/{run.dataset_name}.yaml says "
                f"{run.dataset.classes}; mend that number"
            )
        order = np.random.RandomState(run.class_order_seed).permutation(len(names))
        classes = [names[index] for index in order]
        position = {name: index for index, name in enumerate(classes)}
        labels = torch.tensor([position[name] for name in images.labels.classes])
        is_test = torch.tensor([split == "test" for split in images.labels.splits])
        is_train = ~is_test & _share(labels, is_test, run.training.share, run.seed)
        return cls(images, labels, is_test, is_train, classes, run.images, run.backbone.architecture)

    @cached_property
    def summary(self) -> dict[str, str | int]:
        """What tells the dataset from others, see `ntkcl.data.images.summary`."""
        return summary(self.images)

    def train_images(self, task: Task, device: torch.device) -> ArrayImages | ViewedImages | ResidentImages:
        """The training images of a task. On a GPU they are decoded once and stay there, if there is room for them."""
        inside = (self.labels >= task.first_class) & (self.labels < task.classes_seen)
        images = self.some_images(inside & self.is_train, device)
        if device.type == "cuda" and isinstance(images, ViewedImages):
            free, _ = torch.cuda.mem_get_info(device)
            return ResidentImages.of(images, int(SHARE_FOR_IMAGES * free)) or images
        return images

    def test_images(self, first: int, end: int, device: torch.device) -> ArrayImages | ViewedImages:
        """The test images of the classes `first` to `end - 1`."""
        return self.some_images((self.labels >= first) & (self.labels < end) & self.is_test, device)

    def evenly_spaced(self, task: Task, count: int, is_test: bool) -> Tensor:
        """Which images (N,) are among `count` of each class of a task, evenly spaced in the dataset's order."""
        chosen = torch.zeros_like(self.is_test)
        for label in range(task.first_class, task.classes_seen):
            rows = ((self.labels == label) & (self.is_test == is_test)).nonzero()[:, 0]
            chosen[rows[torch.linspace(0, len(rows) - 1, min(count, len(rows))).long()]] = True
        return chosen

    def some_images(self, chosen: Tensor, device: torch.device) -> ArrayImages | ViewedImages:
        """Those images (N,) that are `chosen`, ordered as in the dataset."""
        rows = chosen.nonzero()[:, 0]
        labels, ids = self.labels[rows], [self.images.labels.ids[row] for row in rows.tolist()]
        if self._seen_as_they_are():
            return ArrayImages(self.images.images[rows], labels, device, ids, self.settings)
        chosen_rows = rows.tolist()
        return ViewedImages(
            lambda index: self.images.image(chosen_rows[index]),
            labels,
            self.settings,
            self.architecture.img_size,
            self.architecture.in_chans,
            device,
            ids,
            threads=torch.get_num_threads(),
        )

    def _seen_as_they_are(self) -> bool:
        """Whether neither crop nor mirror nor resizing changes the images."""
        architecture, settings = self.architecture, self.settings
        side = architecture.img_size
        return (
            isinstance(self.images, ImageSet)
            and tuple(self.images.images.shape[1:]) == (architecture.in_chans, side, side)
            and (settings.train_crop, settings.flip, settings.centre_crop) == ("centre", 0, 1)
        )


def _share(labels: Tensor, is_test: Tensor, share: float, seed: int) -> Tensor:
    """Which images (N,) are in the share of each class's training images: the first of an order drawn by `seed`.

    A smaller share of the same seed is part of a larger one.
    """
    chosen, draw = torch.ones_like(is_test), np.random.RandomState(seed)
    if share == 1:
        return chosen
    for label in labels.unique():
        rows = ((labels == label) & ~is_test).nonzero()[:, 0]
        order = rows[torch.from_numpy(draw.permutation(len(rows)))]
        chosen[order[max(1, round(share * len(rows))) :]] = False
    return chosen
