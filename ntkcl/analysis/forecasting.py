"""The change of earlier classes' scores by learning a task: forecast from the kernel before, and measured after."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ntkcl.analysis.learner_functions import Logits, Scores
from ntkcl.analysis.run_kernels import mean_eigenvalue
from ntkcl.analysis.trained_run import Sample, TrainedRun, in_batches
from ntkcl.methods.learner import Learner
from ntkcl.ntk.empirical import kernel
from ntkcl.ntk.functions import of_module
from ntkcl.ntk.ridge import forecast
from ntkcl.tasks import Task


@dataclass(frozen=True)
class Change:
    """Scores of old classes on their test images before a task is learned, and the change by learning it.

    Args:
        before: (n, old classes).
        labels: (n,).
        forecast: (n, old classes), the first-order change from the kernel before.
        measured: (n, old classes), the change by the trained parameters alone.
        in_all: (n, old classes), the total change, including the previous adapters.
    """

    before: Tensor
    labels: Tensor
    forecast: Tensor
    measured: Tensor
    in_all: Tensor

    def drop(self, change: Tensor) -> float:
        """Loss of accuracy among the old classes by `change`, in points."""
        before, after = (
            100 * (scores.argmax(1) == self.labels).double().mean() for scores in (self.before, self.before + change)
        )
        return (before - after).item()


def change_by(trained: TrainedRun, task: Task, old: Sample, new: Sample, ridge: float, memory: int) -> Change:
    """Return the change of old scores by learning `task`.

    The forecast assumes that training fits the labels. Its residual is the negative gradient of the cross entropy at
    the start of the task: one-hot labels minus the softmax of the logits.

    Args:
        old: test images of earlier tasks.
        new: training images of the task.
        ridge: of the forecast, as a fraction of the mean eigenvalue of the new images' kernel.
        memory: memory budget in bytes.
    """
    after = trained.learners[task.index]  # first: loading a state sets torch's random state
    learner = trained.learner_after(trained.tasks[task.index - 1])
    classes = slice(0, task.first_class)
    before = _scores(learner, old.pixels, classes)
    learner.add_task(task)  # with torch's random state after the earlier tasks: the new parameters start as they did
    learner.to(trained.device).eval()
    expected = _forecast(learner, old, new, classes, ridge, memory)
    in_all = _scores(after, old.pixels, classes) - before
    _take_trained(learner, after)
    measured = _scores(learner, old.pixels, classes) - before
    return Change(before, old.labels.cpu(), expected, measured, in_all)


def _forecast(learner: Learner, old: Sample, new: Sample, classes: slice, ridge: float, memory: int) -> Tensor:
    parameters, logits = of_module(Logits(learner), in_batches(learner.frozen_forward, new.pixels))
    _, scores = of_module(Scores(learner, classes), in_batches(learner.frozen_forward, old.pixels))
    outputs = logits.at(parameters).double().cpu()
    targets = F.one_hot(new.labels.cpu() - learner.first_class, outputs.shape[1])
    k_old_new = kernel(parameters, scores, logits, memory=memory).double().cpu().flatten(2).flatten(0, 1)
    k_new_new = kernel(parameters, logits, memory=memory).double().cpu().flatten(2).flatten(0, 1)
    residual, ridge = targets - outputs.softmax(1), ridge * mean_eigenvalue(k_new_new)
    return forecast(k_old_new, k_new_new, residual, ridge, classes.stop)


def _scores(learner: Learner, images: Tensor, classes: slice) -> Tensor:
    (scores,) = in_batches(lambda batch: (learner.scores(batch),), images)
    return scores[:, classes].double().cpu()


@torch.no_grad()
def _take_trained(learner: Learner, after: Learner) -> None:
    """Copy the trained parameters of `after` to `learner`."""
    later = dict(after.named_parameters())
    for name, parameter in learner.named_parameters():
        if parameter.requires_grad:
            parameter.copy_(later[name])
