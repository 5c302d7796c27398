"""A finished run, loaded again: its learner after each task, and samples of its images."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ntkcl.backbones.files import load_vit
from ntkcl.data.loading.task_stream import TaskStream
from ntkcl.methods.learner import Learner, Tensors
from ntkcl.runs import Run
from ntkcl.tasks import Task, TaskImages
from ntkcl.training.parts import new_learner, stream_of
from ntkcl.training.state import load_state

IMAGES_PER_PASS = 64  # images that go through a ViT at once


@dataclass(frozen=True)
class Sample:
    """Images (n, C, H, W) of one or more tasks and their labels (n,), positions in the class order."""

    pixels: Tensor
    labels: Tensor


@dataclass(frozen=True)
class TrainedRun:
    """A run that has learned all its tasks."""

    run: Run
    device: torch.device

    @cached_property
    def stream(self) -> TaskStream:
        """The run's images."""
        return stream_of(self.run)

    @cached_property
    def tasks(self) -> list[Task]:
        """The run's tasks, in order."""
        return self.run.tasks

    @cached_property
    def learners(self) -> list[Learner]:
        """The learner after each task, in eval mode."""
        return [self.learner_after(task) for task in self.tasks]

    def learner_after(self, task: Task) -> Learner:
        """A learner of its own with the state after `task`; torch's random state is what it was then."""
        learner = new_learner(self.run, self._backbone)
        load_state(self.run.state_path(task.index), learner, self.run, self.tasks[: task.index + 1], self.stream)
        return learner.to(self.device).eval()

    def sample(self, task: Task, count: int, split: str) -> Sample:
        """Return about `count` images of a task: equally many of each class, evenly spaced in the dataset's order.

        Args:
            split: "train" (of all training images, also those that were not learned) or "test".
        """
        rows = self.stream.evenly_spaced(task, max(1, count // task.size), split == "test")
        return self._all_of(self.stream.some_images(rows, self.device))

    @cached_property
    def _backbone(self) -> torch.nn.Module:
        """The backbone in float32: gradients need the digits that bfloat16 rounds away."""
        return load_vit(self.run.backbone_name).to(self.device)

    def _all_of(self, images: TaskImages) -> Sample:
        pixels, labels = zip(*images.eval_batches(), strict=True)
        return Sample(torch.cat(pixels), torch.cat(labels))


@torch.no_grad()
def in_batches(function: Callable[[Tensor], Tensors], images: Tensor) -> Tensors:
    """Apply `function` to images (N, C, H, W) in batches and concatenate the results."""
    parts = [function(batch) for batch in images.split(IMAGES_PER_PASS)]
    return tuple(torch.cat(column) for column in zip(*parts, strict=True))
