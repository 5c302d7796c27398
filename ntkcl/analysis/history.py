"""A finished run, taken up again: its learner after each task, and the images that it is looked at with."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ntkcl.config import Run
from ntkcl.data.stream import TaskStream
from ntkcl.methods.learner import Learner
from ntkcl.settings import Task
from ntkcl.training.state import load_state
from ntkcl.training.train import backbone_of, new_learner


@dataclass(frozen=True)
class Images:
    """Some images of one task: (n, C, H, W), and their labels (n,), positions in the class order."""

    pixels: Tensor
    labels: Tensor


@dataclass(frozen=True)
class History:
    """A run whose tasks have all been learned."""

    run: Run
    device: torch.device

    @cached_property
    def stream(self) -> TaskStream:
        """The data."""
        return TaskStream.of(self.run)

    @cached_property
    def tasks(self) -> list[Task]:
        """In order."""
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

    def sample(self, task: Task, count: int, split: str) -> Images:
        """At most `count` images of a task, the same number of each class, evenly spaced over the dataset's order.

        Args:
            split: "train" (all training images, whatever share of them was learned) or "test".
        """
        rows = self.stream.evenly_spaced(task, max(1, count // task.size), split == "test")
        return self._all_of(self.stream.some_images(rows, self.device))

    def learned_images(self, task: Task) -> Images:
        """All training images that the run learned `task` from."""
        return self._all_of(self.stream.train_images(task, self.device))

    @cached_property
    def _backbone(self) -> torch.nn.Module:
        return backbone_of(self.run, self.device).to(self.device)

    def _all_of(self, images) -> Images:
        pixels, labels = zip(*images.in_order(), strict=True)
        return Images(torch.cat(pixels), torch.cat(labels))
