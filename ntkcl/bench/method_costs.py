"""Costs of a method that do not depend on the machine: parameters, and operations of an image."""

from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from ntkcl.backbones.files import build_vit
from ntkcl.backbones.vit_blocks import embed, through_blocks
from ntkcl.bench.speed import operations_per_image, randomize_buffers
from ntkcl.methods.learner import Learner
from ntkcl.registry import METHODS
from ntkcl.runs import Run
from ntkcl.tasks import Batches, Task
from ntkcl.training.loop import learn_task

BATCH = 8  # images of a batch; counts are divided by it


@dataclass(frozen=True)
class Parameters:
    """Numbers of a method's parameters.

    Args:
        trained: parameters that the last task trains, or the first one if later ones train nothing.
        stored: values that prediction needs after the last task, without the backbone.
        for_next_task: further values that only the next task would need.
    """

    trained: int
    stored: int
    for_next_task: int


@dataclass(frozen=True)
class Passes:
    """Operations of an image, divided by those of a forward pass through the plain ViT.

    Args:
        training: of a training step of the last task (of the first one if later ones train nothing), forward and
            backward; 0 if nothing is trained.
        inference: of a prediction with the last state.
    """

    training: float
    inference: float


def parameters_of(run: Run) -> Parameters:
    """Count the parameters of the method of `run`; nothing is computed."""
    with torch.device("meta"):
        learner = METHODS.load(run.method.learner)(build_vit(run.backbone.architecture), run.settings)
        trained = 0
        for task in run.tasks:
            learner.add_task(task)
            if learner.epochs_of(task, run.training):
                trained = sum(parameter.numel() for parameter in learner.trained_parameters())
    sizes = {name: tensor.numel() for name, tensor in learner.own_tensors().items()}
    later = sum(size for name, size in sizes.items() if learner.is_for_next_task(name))
    return Parameters(trained, sum(sizes.values()) - later, later)


def passes_of(run: Run) -> Passes:
    """Count the operations of the method of `run`, which learns its last task from a few random images on the CPU."""
    shape, last = run.backbone.architecture, run.tasks[-1]
    vit, images = build_vit(shape), _RandomImages(last, (shape.in_chans, shape.img_size, shape.img_size))
    with FlopCounterMode(display=False) as plain, torch.no_grad():
        through_blocks(vit, embed(vit, images.pixels))
    one_pass = plain.get_total_flops() / BATCH
    learner: Learner = METHODS.load(run.method.learner)(vit, run.settings)
    training = 0.0
    for task in run.tasks[:-1]:
        learner.add_task(task)
        if task.index == 0 and learner.trains_first_task_only and learner.epochs_of(task, run.training):
            labels = images.labels % task.size
            training = operations_per_image(learner.train(), images.pixels, labels, True) / one_pass
    randomize_buffers(learner)
    learn_task(learner, last, images, run.training.model_copy(update={"epochs": min(1, run.training.epochs)}))
    if learner.trained_parameters() and learner.epochs_of(last, run.training):
        training = operations_per_image(learner.train(), images.pixels, images.labels, True) / one_pass
    with torch.no_grad():
        inference = operations_per_image(learner.eval(), images.pixels, images.labels, False) / one_pass
    return Passes(training, inference)


class _RandomImages:
    """A few random images of a task."""

    def __init__(self, task: Task, shape: tuple[int, int, int]) -> None:
        count = max(BATCH, task.size)
        self.all = torch.rand(count, *shape), task.first_class + torch.arange(count) % task.size
        self.pixels, self.labels = (tensor[:BATCH] for tensor in self.all)

    def train_batches(self, batch_size: int, skip: int = 0) -> Batches:
        """Yield one batch."""
        return [(self.pixels, self.labels)][skip:]

    def eval_batches(self) -> Batches:
        """Yield all images."""
        return [self.all]
