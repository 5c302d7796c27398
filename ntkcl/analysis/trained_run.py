"""A finished run, taken up again: its learner after each task, and the images that it is looked at with."""

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

PIECE = 64  # images that go through a ViT at once


@dataclass(frozen=True)
class Images:
    """Some images of one task: (n, C, H, W), and their labels (n,), positions in the class order."""

    pixels: Tensor
    labels: Tensor


@dataclass(frozen=True)
class TrainedRun:
    """A run whose tasks have all been learned."""

    run: Run
    device: torch.device

    @cached_property
    def stream(self) -> TaskStream:
        """The data."""
        return stream_of(self.run)

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
        """About `count` images of a task, evenly spaced over the dataset's order: as many of each class, at least one.

        Args:
            split: "train" (of all training images, whatever share of them was learned) or "test".
        """
        rows = self.stream.evenly_spaced(task, max(1, count // task.size), split == "test")
        return self._all_of(self.stream.some_images(rows, self.device))

    @cached_property
    def _backbone(self) -> torch.nn.Module:
        """In float32: what bfloat16 rounds away would be lost in gradients."""
        return load_vit(self.run.backbone_name).to(self.device)

    def _all_of(self, images: TaskImages) -> Images:
        pixels, labels = zip(*images.eval_batches(), strict=True)
        return Images(torch.cat(pixels), torch.cat(labels))


@torch.no_grad()
def in_pieces(function: Callable[[Tensor], Tensors], images: Tensor) -> Tensors:
    """What `function` makes of images (N, C, H, W), of a few of them at a time."""
    parts = [function(piece) for piece in images.split(PIECE)]
    return tuple(torch.cat(column) for column in zip(*parts, strict=True))
