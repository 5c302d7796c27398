"""The training loop, one for all learners: steps, checkpoints, the log of the losses."""

import math
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn

from ntkcl.devices import distributed
from ntkcl.devices.random_state import random_state, set_random_state
from ntkcl.errors import UserError
from ntkcl.methods.learner import Learner, Tensors
from ntkcl.settings.models import Training
from ntkcl.storage.tensors import add_prefix, strip_prefix
from ntkcl.tasks import Task, TaskImages
from ntkcl.training.checkpoint import Checkpoints, Stopped
from ntkcl.training.micro_batches import FeaturesInParts, fitting_size
from ntkcl.training.optimization import new_optimizer, scheduled_lr, set_lr

MIN_SAVED_SECONDS = 10.0  # of training, for a checkpoint before a task's end
LOSSES_SECONDS = 10.0  # between two copies of the losses to the host, within an epoch

OnEpoch = Callable[[int, int, float], None]
"""Called after each epoch with its number, the number of epochs, and the mean loss."""
OnLosses = Callable[[tuple[str, ...], list[list[float]]], None]
"""Called every few seconds with the columns of the `LossLog` and the rows since the last call."""


@dataclass
class LossLog:
    """The losses of each step of one task: `step,epoch,lr,total` and the terms before their weights."""

    columns: tuple[str, ...] = ("step", "epoch", "lr", "total")
    rows: list[list[float]] = field(default_factory=list)

    def csv(self) -> str:
        """Return a table with a header; floats in their shortest exact form."""
        lines = [",".join(self.columns)]
        lines += [f"{row[0]:.0f},{row[1]:.0f}," + ",".join(repr(value) for value in row[2:]) for row in self.rows]
        return "\n".join(lines) + "\n"

    @classmethod
    def read(cls, path: Path) -> "LossLog":
        """Read what `csv` has written."""
        header, *lines = path.read_text(encoding="utf-8").splitlines()
        return cls(tuple(header.split(",")), [[float(value) for value in line.split(",")] for line in lines])

    def undefined(self) -> dict[str, int]:
        """Count the steps in which a term was not defined and counted as 0."""
        columns = zip(self.columns, zip(*self.rows, strict=True), strict=True) if self.rows else ()
        counts = {name: sum(not math.isfinite(value) for value in values) for name, values in columns}
        return {name: count for name, count in counts.items() if count}


def learn_task(
    learner: Learner,
    task: Task,
    images: TaskImages,
    training: Training,
    on_epoch: OnEpoch = lambda epoch, epochs, loss: None,
    checkpoints: Checkpoints | None = None,
    batches_per_frozen_pass: int = 1,
    compile_mode: str | None = None,
    earlier: Iterable[tuple[Task, TaskImages]] | None = None,
    on_losses: OnLosses | None = None,
) -> LossLog:
    """Train `learner` on `task`; all random numbers come from torch's generators.

    Args:
        on_epoch: called after each epoch.
        checkpoints: where training is saved from time to time, and resumes from.
        batches_per_frozen_pass: number of batches that go through `Learner.frozen_forward` together.
        compile_mode: mode of torch.compile for the passes through the ViT, such as "default"; None: not compiled.
        earlier: earlier tasks and their images, for an oracle (`Learner.needs_old_images`).
        on_losses: called every few seconds, and after each epoch.

    Returns:
        The losses of every step.

    Raises:
        UserError: a loss is not finite, the process was told to stop (`Stopped`), images for an oracle are
            missing, or the state is for prediction only.
    """
    if not learner.is_complete:
        raise UserError(
            "this state is for prediction; to learn more classes, load it with the next_task.safetensors beside it"
        )
    if training.micro_batch and learner.needs_whole_batch:
        raise UserError(
            "with batch_vote, a step cannot be computed in parts; remove training.micro_batch or batch_vote"
        )
    if learner.needs_old_images and task.index and earlier is None:
        raise UserError("this is an oracle, which needs the images of all earlier tasks; choose other settings")
    learner.add_task(task)
    distributed.broadcast_parameters(learner)
    learner.eval()
    log, is_trained = LossLog(), bool(learner.trained_parameters() and learner.epochs_of(task, training))
    with checkpoints.handle_signals() if checkpoints and is_trained else nullcontext():
        with distributed.shared_random_state():
            learner.begin_task(task, images, training)
        if is_trained:
            steps = _Training(learner, task, training, checkpoints, batches_per_frozen_pass, compile_mode, on_losses)
            log = steps.run(images, on_epoch)
    learner.eval()
    learner.end_task(task, images)
    for old, old_images in earlier or ():
        learner.revisit_task(old, old_images)
    return log


class _Training:
    """The steps of one task, and the position in them."""

    def __init__(
        self,
        learner: Learner,
        task: Task,
        training: Training,
        checkpoints: Checkpoints | None,
        batches_per_frozen_pass: int,
        compile_mode: str | None,
        on_losses: OnLosses | None,
    ) -> None:
        self.learner, self.task, self.training = learner, task, training
        self.frozen_forward, self.features = learner.frozen_forward, learner.training_features
        if compile_mode:
            self.frozen_forward, self.features = (
                torch.compile(f, mode=compile_mode) for f in (self.frozen_forward, self.features)
            )
        self.checkpoints, self.batches_per_frozen_pass = checkpoints, batches_per_frozen_pass
        self.epochs, self.parameters = learner.epochs_of(task, training), learner.trained_parameters()
        self.optimizer = new_optimizer(learner.parameter_groups(), training, training.lr_of(task))
        self.update_maps, self.lr = learner.update_maps(), training.lr_of(task)
        if learner.zero_gradients:
            for parameter in self.parameters:
                parameter.grad = torch.zeros_like(parameter)
        self.log, self.pending = LossLog(), []  # losses of the last steps that are still on the device
        self.epoch = self.done = 0  # epochs, and batches of the next one, that are done
        self.before_epoch = random_state()
        self.on_losses, self.fetched = on_losses, time.monotonic()

    def run(self, images: TaskImages, on_epoch: OnEpoch) -> LossLog:
        """All epochs, or those that a checkpoint leaves."""
        if self.checkpoints and (saved := self.checkpoints.read(self.learner.own_tensors())):
            self._resume(*saved)
        self._run_epochs(images, on_epoch)
        self.optimizer.zero_grad()
        return self.log

    def _run_epochs(self, images: TaskImages, on_epoch: OnEpoch) -> None:
        while self.epoch < self.epochs:
            self.lr = scheduled_lr(self.training, self.task, self.epoch)
            set_lr(self.optimizer, self.lr)
            self._run_epoch(images)
            self._fetch_losses()
            self.epoch, self.done = self.epoch + 1, 0
            losses = [row[3] for row in self.log.rows if row[1] == self.epoch]
            on_epoch(self.epoch, self.epochs, sum(losses) / len(losses))
        if self.checkpoints:  # what comes after the steps may take long, too
            self._save_if_due(MIN_SAVED_SECONDS)

    def _run_epoch(self, images: TaskImages) -> None:
        self.learner.train()
        self.learner.epoch = self.epoch
        now, self.before_epoch = random_state(), self.before_epoch if self.done else random_state()
        set_random_state(self.before_epoch)  # order and transforms use the first random numbers of an epoch
        images = self.learner.begin_epoch(images)
        batches = iter(images.train_batches(self.training.batch_size, self.done))
        if self.done:
            set_random_state(now)
        while group := tuple(islice(batches, self.batches_per_frozen_pass)):
            for frozen, labels in self._frozen_batches(group):
                self._step(frozen, labels)
            self.done += len(group)
            if time.monotonic() - self.fetched >= LOSSES_SECONDS:
                self._fetch_losses()
            if self.checkpoints:
                self._save_if_due()

    def _frozen_batches(self, group: tuple[tuple[Tensor, Tensor], ...]) -> Iterator[tuple[Tensors, Tensor]]:
        """Pass several batches through the frozen part together; yield its output batch by batch, with the labels."""
        images, labels = zip(*group, strict=True)
        if isinstance(images[0], tuple):  # outputs of `fixed_forward`
            with self.learner.autocast():
                return zip([self.learner.frozen_forward(fixed) for fixed in images], labels, strict=True)
        with self.learner.autocast():
            frozen = self.frozen_forward(torch.cat(images) if len(group) > 1 else images[0])
        parts = zip(*(tensor.split([len(part) for part in images]) for tensor in frozen), strict=True)
        return zip(parts, labels, strict=True)

    def _step(self, frozen: Tensors, labels: Tensor) -> None:
        self.learner.step = len(self.log.rows) + len(self.pending)
        total = None
        with distributed.shared_random_state():
            drawn = self.learner.draw(len(labels))
        with suppress(torch.OutOfMemoryError):
            total, terms = self._backward(frozen, drawn, labels, self.training.micro_batch)
        if total is None:  # not in an `except`, which would keep the memory of the failed step
            raise UserError(self._advice(frozen, drawn, labels))
        distributed.average_gradients(self.parameters)
        if limit := self.training.clip_norm:
            terms = terms | {"grad_norm": nn.utils.clip_grad_norm_(self.parameters, limit)}
        self.learner.change_gradients()
        self._update()
        self.pending.append(torch.stack([total.detach(), *(term.detach() for term in terms.values())]))
        self.log.columns = (*LossLog.columns, *terms)

    def _backward(
        self, frozen: Tensors, drawn: Tensors, labels: Tensor, micro_batch: int | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch and its terms; gradients are with the parameters then."""
        local = tuple(distributed.shard(rows) for rows in drawn)
        parts = FeaturesInParts(self.features, frozen, local, micro_batch)
        with self.learner.autocast():
            features = parts.forward()
        features = tuple(distributed.all_gather_rows(feature, len(labels)) for feature in features)
        with distributed.shared_random_state():
            total, terms = self.learner.loss(features, labels)
        self.optimizer.zero_grad(set_to_none=not self.learner.zero_gradients)
        total.backward()
        with self.learner.autocast():
            parts.backward()
        return total, terms

    def _advice(self, frozen: Tensors, drawn: Tensors, labels: Tensor) -> str:
        """What fits, for a step without enough memory; the step is lost."""
        count = min(self.training.micro_batch or len(labels), len(frozen[0]))
        if self.learner.needs_whole_batch:
            fits = "use a GPU with more memory"
        elif distributed.world_size() > 1:  # the other processes are not here to take part
            fits = f"set training.micro_batch to {-(-count // 2)} or less"
        else:
            size = fitting_size(lambda size: self._backward(frozen, drawn, labels, size), count)
            fits = f"set training.micro_batch to {size}, which fits" if size else "use a GPU with more memory"
        return (
            f"the GPU has no memory for {count} images at once at task {self.task.index}; {fits}, or let fewer jobs "
            "share a GPU; earlier tasks are kept"
        )

    @torch.no_grad()
    def _update(self) -> None:
        before = {parameter: parameter.clone() for parameter in self.update_maps}
        self.optimizer.step()
        for parameter, function in self.update_maps.items():
            parameter.copy_(before[parameter] + function(parameter - before[parameter]))

    def _fetch_losses(self) -> None:
        """Copy the losses to the host, all at once, and stop if one is not finite."""
        first, lr = len(self.log.rows), self.lr
        values = torch.stack(self.pending).tolist() if self.pending else []
        self.log.rows += [[first + index, self.epoch + 1, lr, *row] for index, row in enumerate(values)]
        self.pending.clear()
        self.fetched = time.monotonic()
        for row in self.log.rows[first:]:
            if not math.isfinite(row[3]):
                pairs = zip(self.log.columns[3:], row[3:], strict=True)
                losses = ", ".join(f"{name} {value:.4g}" for name, value in pairs)
                raise UserError(
                    f"the loss is not finite at task {self.task.index}, epoch {row[1]}, step {row[0]} ({losses}); "
                    "lower lr, or the weight of the term that grew; earlier tasks are kept"
                )
        if values and self.on_losses:
            self.on_losses(self.log.columns, self.log.rows[first:])

    def _save_if_due(self, interval: float | None = None) -> None:
        due, number = self.checkpoints.should_save(interval)
        if due:
            self._fetch_losses()
            self.checkpoints.write(*self._saved())
        if number:
            raise Stopped(
                f"stopped by {signal.Signals(number).name} at task {self.task.index}, epoch "
                f"{min(self.epoch + 1, self.epochs)} of {self.epochs}, step {len(self.log.rows)}; the same command "
                "resumes from there"
            )

    def _saved(self) -> tuple[dict[str, Tensor], dict]:
        """Return everything that the rest of the task depends on: tensors and metadata."""
        tensors = add_prefix("learner", self.learner.own_tensors())
        tensors["losses"] = torch.tensor(self.log.rows, dtype=torch.float64)
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= add_prefix(f"optimizer/{index}", {key: torch.as_tensor(value) for key, value in state.items()})
        for rank, (now, before) in enumerate(distributed.all_gather_object((random_state(), self.before_epoch))):
            tensors |= add_prefix(f"now/{rank}", now) | add_prefix(f"before/{rank}", before)
        return tensors, {"epoch": self.epoch, "done": self.done, "columns": self.log.columns}

    def _resume(self, tensors: dict[str, Tensor], metadata: dict) -> None:
        self.learner.load_state(strip_prefix("learner", tensors))
        self.epoch, self.done = metadata["epoch"], metadata["done"]
        self.log = LossLog(tuple(metadata["columns"]), tensors["losses"].tolist())
        state = {}
        for name, tensor in strip_prefix("optimizer", tensors).items():
            index, _, key = name.partition("/")
            state.setdefault(int(index), {})[key] = tensor
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": state})
        set_random_state(strip_prefix(f"now/{distributed.rank()}", tensors))
        self.before_epoch = strip_prefix(f"before/{distributed.rank()}", tensors)
