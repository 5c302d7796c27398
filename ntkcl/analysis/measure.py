"""Measurements of one finished run: its kernels, its generalization gaps, and forecasts of forgetting."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ntkcl.analysis.forecasting import Change, change_by
from ntkcl.analysis.run_kernels import Kernels, kernel_arrays, kernel_measures, kernels_of, mean_eigenvalue, overlaps
from ntkcl.analysis.trained_run import Sample, TrainedRun, in_batches
from ntkcl.devices.compute import precision_on
from ntkcl.errors import UserError
from ntkcl.methods.learner import Learner
from ntkcl.ntk.ridge import complexity, rademacher
from ntkcl.progress import tracked
from ntkcl.runs import Run
from ntkcl.storage.files import read_json, write_sealed_json
from ntkcl.storage.provenance import provenance
from ntkcl.storage.tensors import write_tensors
from ntkcl.tasks import Task, TaskImages

KERNEL_IMAGES_PER_TASK = 40  # training images
FORECAST_TEST_IMAGES = 80  # of all earlier tasks together
FEATURE_IMAGES_PER_TASK = 80  # test images whose features are saved
COMPLEXITY_RIDGE = 0.01  # as a fraction of a kernel's mean eigenvalue
FORECAST_RIDGE = 1.0  # also of effective dimensions: a few epochs fit the leading directions only
FORECAST_POINTS = 1000  # that are saved of each forecast


def measure(run: Run, device: torch.device, memory: int) -> dict[str, Any]:
    """Measure an evaluated run; write `kernel.json` and `kernel.safetensors` next to its metrics.

    Args:
        memory: memory budget of kernels in bytes, without states, images and results.

    Returns:
        The content of `kernel.json`. A learner that trains nothing has gaps, but no kernel.

    Raises:
        UserError: the run is a joint one, or its states or metrics are missing or of other settings.
    """
    if len(run.tasks) < 2:
        raise UserError(f"{run.name} learns a single task; choose a run that learns several")
    evaluated, trained = read_json(run.folder / "metrics.json"), TrainedRun(run, device)
    if evaluated["digest"] != run.digest:
        raise UserError(f"{run.folder}/metrics.json was computed with other settings; evaluate the run again")
    samples = [trained.sample(task, KERNEL_IMAGES_PER_TASK, "train") for task in trained.tasks]
    content, arrays = {"gaps": gaps(trained, evaluated["metrics"]["accuracy_matrix"])}, _features(trained)
    if trained.learners[0].trained_parameters():
        kernels = kernels_of(trained, [sample.pixels for sample in samples], memory)
        learned_from = content["gaps"]["images"]
        content |= kernel_measures(kernels, FORECAST_RIDGE) | complexities(
            kernels, samples, trained.tasks, learned_from
        )
        later = tracked(trained.tasks[1:], "forecasting forgetting", len(trained.tasks) - 1, "tasks")
        changes = [_change(trained, task, samples[task.index], memory) for task in later]
        content["forecast"] = [_correlations(change) for change in changes]
        arrays |= kernel_arrays(kernels) | _points(changes)
        arrays["kernel/tasks"] = torch.cat([torch.full_like(s.labels, t) for t, s in enumerate(samples)]).cpu()
    content["overlap"] = overlaps(trained.learners[-1], [sample.pixels for sample in samples])
    content |= {"run": run.describe(), "digest": run.digest, "how": _how()}
    content["provenance"] = [provenance(device.type, precision_on(device, run.training.precision))]
    write_tensors(run.folder / "kernel.safetensors", arrays, {"format": "ntkcl-kernel", "digest": run.digest})
    write_sealed_json(run.folder / "kernel.json", content)
    return content


def gaps(trained: TrainedRun, matrix: list[list[float]]) -> dict[str, list[float]]:
    """Return accuracies in percent and the gaps between them in points, as lists over tasks.

    Args:
        matrix: accuracies a(t, k) on test images, as `ntkcl.metrics.continual.accuracy_matrix` gives them.

    Returns:
        `images`: number of images that the task was learned from; `train`: the accuracy on them after learning it.
        `task_specific_gap`: `train` minus the accuracy on the task's test images after learning it.
        `task_interplay_gap`: loss of that test accuracy until the end, as classes are added.
        `same_classes_gap`: its loss among the classes learned by then, by changes of the learner alone.
    """
    last, images, train, same = trained.learners[-1], [], [], []
    for task in trained.tasks:
        learner = trained.learners[task.index]
        seen = trained.stream.train_images(task, trained.device)
        test = trained.stream.test_images(task.first_class, task.classes_learned, trained.device)
        images.append(len(seen.labels))
        train.append(_accuracy(learner, seen, task.classes_learned))
        same.append(_accuracy(learner, test, task.classes_learned) - _accuracy(last, test, task.classes_learned))
    learned, end = [matrix[t][t] for t in range(len(matrix))], matrix[-1]
    return {
        "images": images,
        "train": train,
        "task_specific_gap": [a - b for a, b in zip(train, learned, strict=True)],
        "task_interplay_gap": [a - b for a, b in zip(learned, end, strict=True)],
        "same_classes_gap": same,
    }


@torch.no_grad()
def _accuracy(learner: Learner, images: TaskImages, classes: int) -> float:
    """The accuracy in percent among the first `classes`."""
    right = [learner.scores(batch)[:, :classes].argmax(1) == labels for batch, labels in images.eval_batches()]
    return 100 * torch.cat(right).double().mean().item()


def complexities(
    kernels: Kernels, samples: list[Sample], tasks: list[Task], images: list[int]
) -> dict[str, list[float]]:
    """Return the terms of the kernel ridge bounds for each task that was learned from m images.

    The norm of the predictor of the task's labels is that on n sampled images. `complexity`: norm / sqrt(m), when
    learned; `complexity_end`: at the end; `rademacher`: norm sqrt(Tr K / n) / sqrt(m), which does not depend on the
    scale of the scores.
    """
    values = {"complexity": [], "complexity_end": [], "rademacher": []}
    for task, sample, count in zip(tasks, samples, images, strict=True):
        targets = F.one_hot(sample.labels.cpu() - task.first_class, task.size).double()
        share = (len(targets) / count) ** 0.5
        learned, end = kernels.learned[task.index], kernels.end[task.index]
        values["complexity"].append(share * complexity(learned, targets, COMPLEXITY_RIDGE * mean_eigenvalue(learned)))
        values["complexity_end"].append(share * complexity(end, targets, COMPLEXITY_RIDGE * mean_eigenvalue(end)))
        values["rademacher"].append(share * rademacher(learned, targets, COMPLEXITY_RIDGE * mean_eigenvalue(learned)))
    return values


def _change(trained: TrainedRun, task: Task, new: Sample, memory: int) -> Change:
    earlier = trained.tasks[: task.index]
    parts = [trained.sample(old, FORECAST_TEST_IMAGES // len(earlier), "test") for old in earlier]
    old = Sample(torch.cat([part.pixels for part in parts]), torch.cat([part.labels for part in parts]))
    return change_by(trained, task, old, new, FORECAST_RIDGE, memory)


def _correlations(change: Change) -> dict[str, float | None]:
    """Agreement of the forecast for one task with the measured change."""
    expected, measured, in_all = (x.flatten().numpy() for x in (change.forecast, change.measured, change.in_all))
    return {
        "correlation": _correlation(expected, measured),
        "correlation_in_all": _correlation(expected, in_all),
        "slope": float(expected @ measured / (expected @ expected)) if expected.any() else None,
        "drop_forecast": change.drop(change.forecast),
        "drop_measured": change.drop(change.measured),
    }


def _correlation(a: np.ndarray, b: np.ndarray) -> float | None:
    return float(np.corrcoef(a, b)[0, 1]) if a.std() and b.std() else None


def _points(changes: list[Change]) -> dict[str, Tensor]:
    """Pairs of forecast and measured changes, thinned evenly to `FORECAST_POINTS`."""
    arrays = {}
    for task, change in enumerate(changes, start=1):
        chosen = slice(None, None, -(-change.forecast.numel() // FORECAST_POINTS))
        arrays[f"forecast/{task}/predicted"] = change.forecast.flatten()[chosen].float()
        arrays[f"forecast/{task}/measured"] = change.measured.flatten()[chosen].float()
    return arrays


@torch.no_grad()
def _features(trained: TrainedRun) -> dict[str, Tensor]:
    """The features of some test images after the last task."""
    samples = [trained.sample(task, FEATURE_IMAGES_PER_TASK, "test") for task in trained.tasks]
    learner, images = trained.learners[-1], torch.cat([sample.pixels for sample in samples])
    features = learner.named_features(in_batches(learner.extract_features, images))
    arrays = {f"features/{name}": rows.float() for name, rows in features.items()}
    arrays["features/tasks"] = torch.cat([torch.full_like(s.labels, t) for t, s in enumerate(samples)])
    return {name: array.cpu().contiguous() for name, array in arrays.items()}


def _how() -> dict[str, float]:
    """The constants that the numbers depend on besides the run."""
    return {
        "images_per_task": KERNEL_IMAGES_PER_TASK,
        "old_images": FORECAST_TEST_IMAGES,
        "ridge": COMPLEXITY_RIDGE,
        "wide_ridge": FORECAST_RIDGE,
    }
