"""The tangent kernels of a run: within each task, between tasks, before and after later tasks.

A task's kernel is that of the scores of its own classes on some of its training images, summed over these classes: the
same function when the task has been learned and at the end.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ntkcl.analysis.learner_functions import Scores
from ntkcl.analysis.trained_run import TrainedRun, in_batches
from ntkcl.methods.learner import Learner
from ntkcl.ntk.empirical import kernel
from ntkcl.ntk.functions import of_module
from ntkcl.ntk.measures import (
    alignment,
    couplings,
    effective_dimension,
    overlap,
    principal_angles,
    relative_change,
    spectrum,
)
from ntkcl.progress import tracked
from ntkcl.tasks import Task

FEATURE_DIRECTIONS = 5  # of each task's features that principal angles are taken between


@dataclass(frozen=True)
class Kernels:
    """The class-summed kernels of one run; n images of each task, N of all T tasks.

    Args:
        learned: of each task when it had been learned, (n, n).
        end: the same after the last task.
        before: of all images after the first task, for the first task's classes, (N, N).
        after: the same after the last task.
        all: of all images after the last task, for all classes, (N, N).
    """

    learned: list[Tensor]
    end: list[Tensor]
    before: Tensor
    after: Tensor
    all: Tensor


def kernels_of(trained: TrainedRun, images: list[Tensor], memory: int) -> Kernels:
    """Compute the kernels.

    Args:
        images: of each task, (n, C, H, W).
        memory: memory budget in bytes.
    """
    tasks, learners, everything = trained.tasks, trained.learners, torch.cat(images)
    last, of_first, of_all = learners[-1], _classes(tasks[0]), slice(0, tasks[-1].classes_learned)
    learned = [(learners[task.index], images[task.index], _classes(task)) for task in tasks]
    end = [(last, images[task.index], _classes(task)) for task in tasks]
    over_tasks = [(learners[0], everything, of_first), (last, everything, of_first), (last, everything, of_all)]
    parts = [*learned, *end, *over_tasks]
    kernels = [of_scores(*part, memory) for part in tracked(parts, "measuring kernels", len(parts), "kernels")]
    return Kernels(kernels[: len(tasks)], kernels[len(tasks) : -3], *kernels[-3:])


def of_scores(learner: Learner, images: Tensor, classes: slice, memory: int) -> Tensor:
    """The kernel (N, N) of a learner's scores of some classes, summed over these and divided by their number."""
    parameters, outputs = of_module(Scores(learner, classes), in_batches(learner.frozen_forward, images))
    return kernel(parameters, outputs, summed=True, memory=memory).double().cpu() / (classes.stop - classes.start)


def kernel_measures(kernels: Kernels, ridge: float) -> dict[str, Any]:
    """Return the measures of a run's kernels: lists over tasks, and the matrix of couplings; None where undefined.

    Args:
        ridge: of the effective dimension, as a fraction of the mean eigenvalue.
    """
    pairs = list(zip(kernels.learned, kernels.end, strict=True))
    coupling = couplings(kernels.all, [len(k) for k in kernels.learned]).tolist()
    return {
        "effective_dimension": [_dimension(k, ridge) for k in kernels.learned],
        "trace": [k.trace().item() for k in kernels.learned],
        "drift": [_finite(relative_change(end, learned)) for learned, end in pairs],
        "alignment": [_finite(alignment(end, learned)) for learned, end in pairs],
        "coupling": [[_finite(value) for value in row] for row in coupling],
    }


def kernel_arrays(kernels: Kernels) -> dict[str, Tensor]:
    """Return the arrays for figures."""
    arrays = {"kernel/before": kernels.before, "kernel/after": kernels.after, "kernel/all": kernels.all}
    for when, parts in (("learned", kernels.learned), ("end", kernels.end)):
        arrays |= {f"spectrum/{when}/{index}": spectrum(part) for index, part in enumerate(parts)}
    return {name: array.float() for name, array in arrays.items()}


@torch.no_grad()
def overlaps(learner: Learner, images: list[Tensor]) -> list[list[float]] | None:
    """The overlap (T, T) of the subspaces that the tasks' features lie in: mean squared cosine of principal angles.

    None if the rank of a task's features is too low.
    """
    seen = [learner.named_features(in_batches(learner.extract_features, each)) for each in images]
    features = [list(names.values())[-1].cpu() for names in seen]
    try:
        return [[overlap(principal_angles(a, b, FEATURE_DIRECTIONS)) for b in features] for a in features]
    except ValueError:
        return None


def mean_eigenvalue(kernel: Tensor) -> float:
    """Tr K / n."""
    return kernel.trace().item() / len(kernel)


def _dimension(kernel: Tensor, ridge: float) -> float | None:
    scale = mean_eigenvalue(kernel)
    return effective_dimension(kernel, ridge * scale) if scale else None


def _finite(value: float) -> float | None:
    """`value`, or None if the kernel is zero and the measure undefined."""
    return value if math.isfinite(value) else None


def _classes(task: Task) -> slice:
    return slice(task.first_class, task.classes_learned)
