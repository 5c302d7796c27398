"""Optimizers and learning rate schedules, by the settings of training."""

import math
from collections.abc import Iterable

from torch import Tensor, optim

from ntkcl.settings.models import Training
from ntkcl.tasks import Task


def new_optimizer(parameters: Iterable[Tensor], training: Training, lr: float) -> optim.Optimizer:
    """Return the optimizer that `training` names, with the learning rate `lr`."""
    if training.optimizer == "adamw":
        return optim.AdamW(parameters, lr, weight_decay=training.weight_decay, fused=True)
    return optim.SGD(parameters, lr, training.momentum, weight_decay=training.weight_decay, fused=True)


def first_lr(training: Training, task: Task) -> float:
    """The learning rate that the schedule of `task` starts from."""
    return training.first_lr if task.index == 0 and training.first_lr else training.lr


def epochs_of(training: Training, task: Task) -> int:
    """Number of epochs of `task`."""
    is_first = task.index == 0 and training.first_epochs is not None
    return training.first_epochs if is_first else training.epochs


def scheduled_lr(training: Training, task: Task, epoch: int) -> float:
    """The learning rate of `epoch`, counted from 0.

    "cosine" is half a cosine over the epochs, from the first value to `min_lr`, which it would reach after the last.
    """
    lr, lowest = first_lr(training, task), training.min_lr
    if training.schedule == "constant":
        return lr
    return lowest + (lr - lowest) * (1 + math.cos(math.pi * epoch / epochs_of(training, task))) / 2
