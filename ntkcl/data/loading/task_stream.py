"""The task stream: images and labels of each task, from a prepared dataset."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ntkcl.data.loading.batches import ArrayImages, TransformedImages
from ntkcl.data.loading.gpu_images import GpuImages
from ntkcl.data.prepared.arrays import ImageSet, summary
from ntkcl.data.prepared.packed import PackedSet
from ntkcl.data.prepared.prepare import load_images
from ntkcl.errors import UserError
from ntkcl.settings.files import load_dataset
from ntkcl.settings.models import Architecture, Preprocessing
from ntkcl.tasks import Task

GPU_MEMORY_FRACTION = 0.25  # of the GPU's free memory that a task's decoded images may take


@dataclass(frozen=True)
class TaskStream:
    """A dataset with its classes in the class order of a run.

    Args:
        images: the dataset.
        labels: (N,), positions in the class order.
        is_test: (N,), mask of test images.
        is_train: (N,), mask of training images in use.
        classes: names of the classes, in order.
        preprocessing: settings of the transforms.
        architecture: architecture of the backbone.
    """

    images: ImageSet | PackedSet
    labels: Tensor
    is_test: Tensor
    is_train: Tensor
    classes: list[str]
    preprocessing: Preprocessing
    architecture: Architecture

    @classmethod
    def load(
        cls,
        name: str,
        preprocessing: Preprocessing,
        architecture: Architecture,
        class_order_seed: int,
        seed: int,
        train_fraction: float = 1.0,
    ) -> "TaskStream":
        """Load the dataset `name`, with its classes permuted by `numpy.random.RandomState(class_order_seed)`.

        Args:
            name: name of the dataset.
            preprocessing: settings of the transforms.
            architecture: architecture of the backbone.
            class_order_seed: seed of the class order.
            seed: seed of the choice of training images, if `train_fraction` is below 1.
            train_fraction: fraction of each class's training images in use.

        Raises:
            UserError: the prepared dataset is missing or damaged, or has another number of classes than its settings.
        """
        images, expected = load_images(name), load_dataset(name).classes
        names = images.manifest.class_names
        if len(names) != expected:
            raise UserError(
                f"data/{name} has {len(names)} classes, params/datasets/{name}.yaml says {expected}; correct it"
            )
        order = np.random.RandomState(class_order_seed).permutation(len(names))
        classes = [names[index] for index in order]
        position = {name: index for index, name in enumerate(classes)}
        labels = torch.tensor([position[label] for label in images.manifest.classes])
        is_test = torch.tensor([split == "test" for split in images.manifest.splits])
        is_train = ~is_test & _train_fraction(labels, is_test, train_fraction, seed)
        return cls(images, labels, is_test, is_train, classes, preprocessing, architecture)

    @cached_property
    def summary(self) -> dict[str, str | int]:
        """Hashes and counts that identify the dataset, see `ntkcl.data.prepared.arrays.summary`."""
        return summary(self.images)

    def train_images(self, task: Task, device: torch.device) -> ArrayImages | TransformedImages | GpuImages:
        """Return the training images of a task. On a GPU they are decoded once and stay there, if they fit."""
        inside = (self.labels >= task.first_class) & (self.labels < task.classes_learned)
        images = self.some_images(inside & self.is_train, device)
        if device.type == "cuda" and isinstance(images, TransformedImages):
            free, _ = torch.cuda.mem_get_info(device)
            return GpuImages.from_images(images, int(GPU_MEMORY_FRACTION * free)) or images
        return images

    def test_images(self, first: int, end: int, device: torch.device) -> ArrayImages | TransformedImages:
        """Return the test images of the classes `first` to `end - 1`."""
        return self.some_images((self.labels >= first) & (self.labels < end) & self.is_test, device)

    def evenly_spaced(self, task: Task, count: int, is_test: bool) -> Tensor:
        """Return a mask (N,) of `count` images of each class of a task, evenly spaced in the dataset's order."""
        chosen = torch.zeros_like(self.is_test)
        for label in range(task.first_class, task.classes_learned):
            rows = ((self.labels == label) & (self.is_test == is_test)).nonzero()[:, 0]
            chosen[rows[torch.linspace(0, len(rows) - 1, min(count, len(rows))).long()]] = True
        return chosen

    def some_images(self, chosen: Tensor, device: torch.device) -> ArrayImages | TransformedImages:
        """Return the images of the mask `chosen` (N,), in the dataset's order."""
        rows = chosen.nonzero()[:, 0]
        labels, ids = self.labels[rows], [self.images.manifest.ids[row] for row in rows.tolist()]
        if self._needs_no_transform():
            return ArrayImages(self.images.images[rows], labels, device, ids, self.preprocessing)
        chosen_rows = rows.tolist()
        return TransformedImages(
            lambda index: self.images.image(chosen_rows[index]),
            labels,
            self.preprocessing,
            self.architecture.img_size,
            self.architecture.in_chans,
            device,
            ids,
            threads=torch.get_num_threads(),
        )

    def _needs_no_transform(self) -> bool:
        """Return whether no crop, flip or resizing changes the images."""
        architecture, preprocessing = self.architecture, self.preprocessing
        side = architecture.img_size
        return (
            isinstance(self.images, ImageSet)
            and tuple(self.images.images.shape[1:]) == (architecture.in_chans, side, side)
            and (preprocessing.train_crop, preprocessing.hflip, preprocessing.crop_pct) == ("center", 0, 1)
        )


def _train_fraction(labels: Tensor, is_test: Tensor, fraction: float, seed: int) -> Tensor:
    """Return a mask (N,) of a fraction of each class's training images: the first in a random order by `seed`.

    A smaller fraction with the same seed is a subset of a larger one.
    """
    chosen, generator = torch.ones_like(is_test), np.random.RandomState(seed)
    if fraction == 1:
        return chosen
    for label in labels.unique():
        rows = ((labels == label) & ~is_test).nonzero()[:, 0]
        order = rows[torch.from_numpy(generator.permutation(len(rows)))]
        chosen[order[max(1, round(fraction * len(rows))) :]] = False
    return chosen
