"""The training loop, one for all learners: optimizer, schedule, the log of the losses."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, optim

from ntkcl.batches import Batches, TaskImages
from ntkcl.errors import UserError
from ntkcl.methods.learner import Learner
from ntkcl.settings import Task, Training


@dataclass
class LossLog:
    """The losses of each step of one task: `step,epoch,lr,total` and the terms before their weights."""

    columns: tuple[str, ...] = ("step", "epoch", "lr", "total")
    rows: list[list[float]] = field(default_factory=list)

    def csv(self) -> str:
        """As a table with a header; floats in their shortest exact form."""
        lines = [",".join(self.columns)]
        lines += [f"{row[0]:.0f},{row[1]:.0f}," + ",".join(repr(value) for value in row[2:]) for row in self.rows]
        return "\n".join(lines) + "\n"

    def undefined(self) -> dict[str, int]:
        """How often a term was not defined and counted as 0."""
        columns = zip(self.columns, zip(*self.rows, strict=True), strict=True) if self.rows else ()
        counts = {name: sum(not math.isfinite(value) for value in values) for name, values in columns}
        return {name: count for name, count in counts.items() if count}


def learn_task(
    learner: Learner,
    task: Task,
    images: TaskImages,
    training: Training,
    on_epoch: Callable[[int, int, float], None] = lambda epoch, epochs, loss: None,
) -> LossLog:
    """Let `learner` learn `task`; draws come from torch's generators.

    Args:
        on_epoch: called after each epoch with its number, the number of epochs, and the mean loss.

    Returns:
        The losses of every step.

    Raises:
        UserError: a loss is not finite.
    """
    learner.grow(task)
    learner.eval()
    learner.begin_task(task, images, training)
    log, parameters = LossLog(), learner.trained_parameters()
    lr, epochs = training.lr, training.epochs
    if task.index == 0:
        lr, epochs = training.first_lr or lr, epochs if training.first_epochs is None else training.first_epochs
    if parameters and epochs:
        optimizer = _optimizer(parameters, training, lr)
        schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs, training.min_lr)
        for epoch in range(epochs):
            loss = _train_epoch(learner, images.epoch(training.batch_size), optimizer, epoch, log, task)
            if training.schedule == "cosine":
                schedule.step()
            on_epoch(epoch + 1, epochs, loss)
    learner.eval()
    learner.end_task(task, images)
    return log


def _optimizer(parameters: list[Tensor], training: Training, lr: float) -> optim.Optimizer:
    if training.optimizer == "adamw":
        return optim.AdamW(parameters, lr, weight_decay=training.weight_decay)
    return optim.SGD(parameters, lr, training.momentum, weight_decay=training.weight_decay)


def _train_epoch(
    learner: Learner, batches: Batches, optimizer: optim.Optimizer, epoch: int, log: LossLog, task: Task
) -> float:
    """One epoch; the losses come to the host once, at its end."""
    learner.train()
    lr, steps = optimizer.param_groups[0]["lr"], []
    for images, labels in batches:
        total, terms = learner.loss(images, labels)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        steps.append(torch.stack([total.detach(), *(term.detach() for term in terms.values())]))
    log.columns = (*LossLog.columns, *terms)
    first = len(log.rows)
    values = torch.stack(steps).tolist()
    log.rows += [[first + index, epoch + 1, lr, *row] for index, row in enumerate(values)]
    for row in log.rows[first:]:
        if not math.isfinite(row[3]):
            losses = ", ".join(f"{name} {value:.4g}" for name, value in zip(log.columns[3:], row[3:], strict=True))
            raise UserError(
                f"the loss is not finite at task {task.index}, epoch {epoch + 1}, step {row[0]} ({losses}); "
                "lower lr, or the weight of the term that grew; earlier tasks are kept"
            )
    return sum(row[0] for row in values) / len(values)
