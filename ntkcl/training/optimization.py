"""Optimizers and learning rate schedules, by the settings of training."""

import math
from typing import Any

import torch
from torch import optim

from ntkcl.settings.models import Training
from ntkcl.tasks import Task


def new_optimizer(groups: list[dict[str, Any]], training: Training, lr: float) -> optim.Optimizer:
    """Return the optimizer that `training` names, for `Learner.parameter_groups`, with the learning rate `lr`."""
    decay = training.weight_decay
    if training.optimizer == "adamw":
        optimizer = optim.AdamW(groups, lr, weight_decay=decay, fused=True)
    elif training.optimizer == "adam":
        optimizer = optim.Adam(groups, lr, weight_decay=decay, fused=True)
    else:
        optimizer = optim.SGD(groups, lr, training.momentum, weight_decay=decay, fused=True)
        if training.momentum:  # torch's fused step fails if a parameter has its first gradient after others had theirs
            for parameter in (each for group in optimizer.param_groups for each in group["params"]):
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    set_lr(optimizer, lr)
    return optimizer


def set_lr(optimizer: optim.Optimizer, lr: float) -> None:
    """Set the learning rate of each group to `lr` times its `lr_factor`."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_factor", 1.0)


def scheduled_lr(training: Training, task: Task, epoch: int) -> float:
    """The learning rate of `epoch`, counted from 0, of `task`, whose number of epochs is that of `training`.

    - cosine: half a cosine over the epochs, from the first value to `min_lr`, which it would reach after the last.
    - lagging_cosine: that of CODA-Prompt's code, lr cos(99 pi i / (200 (epochs - 1))) with i = max(epoch - 1, 0): its
      first value counts twice, so that it ends at 0.097 lr after 20 epochs.
    - multistep: lr * decay^n after n milestones.
    """
    lr, lowest, epochs = training.lr_of(task), training.min_lr, training.epochs_of(task)
    if training.schedule == "cosine":
        return lowest + (lr - lowest) * (1 + math.cos(math.pi * epoch / epochs)) / 2
    if training.schedule == "lagging_cosine":
        return lr * math.cos(99 * math.pi * max(epoch - 1, 0) / (200 * max(epochs - 1, 1)))
    if training.schedule == "multistep":
        return lr * training.decay ** sum(milestone <= epoch + 1 for milestone in training.milestones)
    return lr
