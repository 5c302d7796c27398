"""What learning a task changes of earlier classes' scores: forecast from the kernel before, and measured after."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ntkcl.analysis.learner_functions import Logits, Scores
from ntkcl.analysis.run_kernels import mean_eigenvalue
from ntkcl.analysis.trained_run import Images, TrainedRun, in_pieces
from ntkcl.methods.learner import Learner
from ntkcl.ntk.empirical import kernel
from ntkcl.ntk.functions import of_module
from ntkcl.ntk.ridge import forecast
from ntkcl.tasks import Task


@dataclass(frozen=True)
class Change:
    """Scores of old classes on test images of theirs, before a task is learned, and how learning it changes them.

    All are on the CPU.

    Args:
        before: (n, old classes).
        labels: (n,).
        forecast: (n, old classes), of first order, from the kernel before.
        measured: (n, old classes), by what the training changed: the learner before with the trained parameters after.
        in_all: (n, old classes), by all that changed, what is frozen during a task too.
    """

    before: Tensor
    labels: Tensor
    forecast: Tensor
    measured: Tensor
    in_all: Tensor

    def drop(self, change: Tensor) -> float:
        """How many points of the accuracy among old classes the scores lose by this change of them."""
        before, after = (
            100 * (scores.argmax(1) == self.labels).double().mean() for scores in (self.before, self.before + change)
        )
        return (before - after).item()


def change_by(trained: TrainedRun, task: Task, old: Images, new: Images, ridge: float, memory: int) -> Change:
    """The change of old scores that learning `task` makes.

    The task is taken to fit its labels from where it begins: the residual is one-hot labels minus the softmax of the
    logits, the negative gradient of the cross entropy.

    Args:
        old: test images of earlier tasks.
        new: training images of the task.
        ridge: of the forecast, as a share of the mean eigenvalue of the new images' kernel.
        memory: bytes that may be held.
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


def _forecast(learner: Learner, old: Images, new: Images, classes: slice, ridge: float, memory: int) -> Tensor:
    parameters, logits = of_module(Logits(learner), in_pieces(learner.frozen_forward, new.pixels))
    _, scores = of_module(Scores(learner, classes), in_pieces(learner.frozen_forward, old.pixels))
    outputs = logits.at(parameters).double().cpu()
    targets = F.one_hot(new.labels.cpu() - learner.first_class, outputs.shape[1])
    k_old_new = kernel(parameters, scores, logits, memory=memory, progress=True).double().cpu().flatten(2).flatten(0, 1)
    k_new_new = kernel(parameters, logits, memory=memory, progress=True).double().cpu().flatten(2).flatten(0, 1)
    residual, ridge = targets - outputs.softmax(1), ridge * mean_eigenvalue(k_new_new)
    return forecast(k_old_new, k_new_new, residual, ridge, classes.stop)


def _scores(learner: Learner, images: Tensor, classes: slice) -> Tensor:
    (scores,) = in_pieces(lambda piece: (learner.scores(piece),), images)
    return scores[:, classes].double().cpu()


@torch.no_grad()
def _take_trained(learner: Learner, after: Learner) -> None:
    """Give `learner` the trained parameters of `after`, and nothing else of it."""
    later = dict(after.named_parameters())
    for name, parameter in learner.named_parameters():
        if parameter.requires_grad:
            parameter.copy_(later[name])
