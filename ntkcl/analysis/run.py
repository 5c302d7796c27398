"""All that is measured inside one finished run: its kernels, its gaps, and how well forgetting can be forecast."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ntkcl.analysis.forecasting import Change, change_by
from ntkcl.analysis.history import History, Images
from ntkcl.analysis.kernels import Kernels, kernel_arrays, kernel_measures, kernels_of, mean_eigenvalue, overlaps
from ntkcl.config import Run
from ntkcl.errors import UserError
from ntkcl.files import read_json, write_json
from ntkcl.ntk.ridge import complexity
from ntkcl.provenance import provenance
from ntkcl.settings import Task
from ntkcl.tensors import write_tensors
from ntkcl.training.train import precision_on

PER_TASK = 40  # training images of each task in kernels
OLD_IMAGES = 80  # test images of earlier tasks in forecasts, of all of them together
SHOWN = 80  # test images of each task whose features are kept
RIDGE = 0.01  # as a share of a kernel's mean eigenvalue
FORECAST_RIDGE = 1.0  # the same, of forecasts: so few epochs fit the leading directions alone
POINTS = 1000  # of a forecast that are kept


def measure(run: Run, device: torch.device, memory: int) -> dict[str, Any]:
    """Measure a run whose metrics are there; write `kernel.json` and `kernel.safetensors` beside them.

    Args:
        memory: bytes that kernels may hold besides states, images and results.

    Returns:
        The content of `kernel.json`. A learner that trains nothing has gaps and no kernel.

    Raises:
        UserError: the run is a joint one, or its states or metrics are missing or of other settings.
    """
    if len(run.tasks) < 2:
        raise UserError(f"{run.name} learns a single task; choose a run that learns several")
    metrics = read_json(run.folder / "metrics.json")["metrics"]
    history = History(run, device)
    samples = [history.sample(task, PER_TASK, "train") for task in history.tasks]
    content, arrays = {"gaps": gaps(history, metrics["accuracy_matrix"])}, _features(history)
    if history.learners[0].trained_parameters():
        kernels = kernels_of(history, [sample.pixels for sample in samples], memory)
        content |= kernel_measures(kernels, RIDGE) | complexities(kernels, samples, history.tasks)
        changes = [_change(history, task, samples[task.index], memory) for task in history.tasks[1:]]
        content["forecast"] = [_correlations(change) for change in changes]
        arrays |= kernel_arrays(kernels) | _points(changes)
        arrays["kernel/tasks"] = torch.cat([torch.full_like(s.labels, t) for t, s in enumerate(samples)])
    content["overlap"] = overlaps(history.learners[-1], [sample.pixels for sample in samples])
    content |= {"run": run.describe(), "digest": run.digest, "how": _how()}
    content["provenance"] = [provenance(device.type, precision_on(device, run.training))]
    write_tensors(run.folder / "kernel.safetensors", arrays, {"format": "ntkcl-kernel", "digest": run.digest})
    write_json(run.folder / "kernel.json", content)
    return content


@torch.no_grad()
def gaps(history: History, matrix: list[list[float]]) -> dict[str, list[float]]:
    """The accuracies, in percent and of classes seen, whose differences are the gaps; lists over tasks.

    Args:
        matrix: accuracies a(t, k) on test images, as `ntkcl.metrics.accuracy_matrix` gives them.

    Returns:
        `train`: on the images that the task was learned from, just then. `task_specific_gap`: this minus the accuracy
        on its test images, just then. `task_interplay_gap`: what the latter loses by the later tasks.
    """
    train = []
    for task in history.tasks:
        images = history.learned_images(task)
        right = history.learners[task.index].scores(images.pixels).argmax(1) == images.labels
        train.append(100 * right.double().mean().item())
    learned, end = [matrix[t][t] for t in range(len(matrix))], matrix[-1]
    return {
        "train": train,
        "task_specific_gap": [a - b for a, b in zip(train, learned, strict=True)],
        "task_interplay_gap": [a - b for a, b in zip(learned, end, strict=True)],
    }


def complexities(kernels: Kernels, samples: list[Images], tasks: list[Task]) -> dict[str, list[float]]:
    """The kernel ridge terms of each task, when learned and at the end."""
    values = {"complexity": [], "complexity_end": []}
    for task, sample in zip(tasks, samples, strict=True):
        targets = F.one_hot(sample.labels - task.first_class, task.size).double()
        for name, parts in (("complexity", kernels.learned), ("complexity_end", kernels.end)):
            part = parts[task.index]
            values[name].append(complexity(part, targets, RIDGE * mean_eigenvalue(part)))
    return values


def _change(history: History, task: Task, new: Images, memory: int) -> Change:
    earlier = history.tasks[: task.index]
    parts = [history.sample(old, OLD_IMAGES // len(earlier), "test") for old in earlier]
    old = Images(torch.cat([part.pixels for part in parts]), torch.cat([part.labels for part in parts]))
    return change_by(history, task, old, new, FORECAST_RIDGE, memory)


def _correlations(change: Change) -> dict[str, float | None]:
    """How well the forecast of one task's learning agrees with what came."""
    expected, measured, in_all = (x.flatten().numpy() for x in (change.forecast, change.measured, change.in_all))
    return {
        "correlation": _correlation(expected, measured),
        "correlation_in_all": _correlation(expected, in_all),
        "slope": float(expected @ measured / (expected @ expected)) if expected.any() else None,
        "drop_forecast": change.drop(change.forecast),
        "drop_measured": change.drop(change.measured),
        "drop_in_all": change.drop(change.in_all),
    }


def _correlation(a: np.ndarray, b: np.ndarray) -> float | None:
    return float(np.corrcoef(a, b)[0, 1]) if a.std() and b.std() else None


def _points(changes: list[Change]) -> dict[str, Tensor]:
    """Pairs of forecast and measured changes, evenly spaced where there are too many."""
    arrays = {}
    for task, change in enumerate(changes, start=1):
        chosen = slice(None, None, -(-change.forecast.numel() // POINTS))
        arrays[f"forecast/{task}/predicted"] = change.forecast.flatten()[chosen].float()
        arrays[f"forecast/{task}/measured"] = change.measured.flatten()[chosen].float()
    return arrays


@torch.no_grad()
def _features(history: History) -> dict[str, Tensor]:
    """The features of some test images after the last task."""
    samples = [history.sample(task, SHOWN, "test") for task in history.tasks]
    learner, images = history.learners[-1], torch.cat([sample.pixels for sample in samples])
    arrays = {f"features/{name}": rows for name, rows in learner.named_features(learner.see(images)).items()}
    arrays["features/tasks"] = torch.cat([torch.full_like(s.labels, t) for t, s in enumerate(samples)])
    return {name: array.cpu().contiguous() for name, array in arrays.items()}


def _how() -> dict[str, float]:
    """What the numbers depend on besides the run."""
    return {"images_per_task": PER_TASK, "old_images": OLD_IMAGES, "ridge": RIDGE, "forecast_ridge": FORECAST_RIDGE}
