"""Metrics of one run, from its predictions: no model is needed.

`a(t, k)` is the accuracy in percent on the test images of task k after task t. Both count from 0, and `k <= t`. T is
the number of tasks.
"""

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ntkcl.errors import UserError

TYPES = {"task": int, "image": str, "class": int, "predicted": int, "score": float}

Matrix = list[list[float]]


def read_predictions(path: Path) -> pd.DataFrame:
    """Read the predictions of one run: after each task, a row for every test image of the classes learned so far.

    Raises:
        UserError: the file is missing or has other columns.
    """
    try:
        predictions = pd.read_csv(path, dtype=TYPES, keep_default_na=False)
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; evaluate the run first") from error
    except (ValueError, OSError, EOFError, zlib.error) as error:  # damaged compression or text
        remedy = f"delete it and run `snakemake --cores all {path}`"
        raise UserError(f"{path} cannot be read ({error}); {remedy}") from error
    if list(predictions.columns) != list(TYPES):
        raise UserError(f"{path} must have the columns {', '.join(TYPES)}; evaluate the run again")
    return predictions


def task_of_classes(task_sizes: Sequence[int]) -> np.ndarray:
    """Return the task of each class, by position in the class order; shape (classes,)."""
    return np.repeat(np.arange(len(task_sizes)), task_sizes)


def check_predictions(predictions: pd.DataFrame, task_sizes: Sequence[int]) -> None:
    """Check that every image of task k was predicted once after each of the tasks k .. T - 1.

    Raises:
        UserError: images, tasks or classes are missing, duplicate or unknown.
    """
    for column in ("class", "predicted"):
        if not predictions[column].between(0, sum(task_sizes) - 1).all():
            raise UserError(f"predictions: column '{column}' has values outside the {sum(task_sizes)} classes")
    origin = task_of_classes(task_sizes)[predictions["class"]]
    if absent := sorted(set(range(len(task_sizes))) - set(origin)):
        raise UserError(f"predictions: no test image of task {absent[0]}; evaluate the run again")
    if predictions.duplicated(["task", "image"]).any():
        raise UserError("predictions: an image occurs twice in one task; evaluate the run again")
    if not ((predictions["task"] >= origin) & (predictions["task"] < len(task_sizes))).all():
        raise UserError("predictions: an image was predicted before its class was learned, or after the last task")
    by_image = pd.DataFrame({"image": predictions["image"], "origin": origin}).groupby("image")["origin"]
    incomplete = by_image.size() != len(task_sizes) - by_image.first()
    if incomplete.any():
        image = incomplete.index[incomplete][0]
        raise UserError(f"predictions: image {image} was not predicted after every task; evaluate the run again")


def accuracy_matrix(predictions: pd.DataFrame, task_sizes: Sequence[int]) -> Matrix:
    """Return the accuracies a(t, k) in percent; row t contains k = 0 .. t."""
    origin = task_of_classes(task_sizes)[predictions["class"]]
    right = 100.0 * (predictions["class"] == predictions["predicted"])
    means = right.groupby([predictions["task"], origin]).mean()
    return [[float(means[t, k]) for k in range(t + 1)] for t in range(len(task_sizes))]


def accuracy(predictions: pd.DataFrame) -> list[float]:
    """Return A_t in percent: the accuracy after task t on all test images of the classes learned so far.

    Each image has the same weight. So A_t is the mean of a(t, k) over k only if all tasks have equally many test
    images.
    """
    right = 100.0 * (predictions["class"] == predictions["predicted"])
    return [float(value) for value in right.groupby(predictions["task"]).mean()]


def average_accuracy(curve: Sequence[float]) -> float:
    """Ā = (A_0 + ... + A_{T-1}) / T, the "average incremental accuracy" of Rebuffi et al. 2017 (arXiv 1611.07725)."""
    return float(np.mean(curve))


def forgetting(matrix: Matrix) -> float | None:
    """Mean over k < T - 1 of (max over t in k .. T - 2 of a(t, k)) - a(T - 1, k); Chaudhry et al. 2018, 1801.10112.

    In percentage points; negative if later tasks increase the accuracy. None for a single task.
    """
    last = len(matrix) - 1
    drops = [max(matrix[t][k] for t in range(k, last)) - matrix[last][k] for k in range(last)]
    return float(np.mean(drops)) if drops else None


def backward_transfer(matrix: Matrix) -> float | None:
    """Mean over k < T - 1 of a(T - 1, k) - a(k, k); Lopez-Paz and Ranzato 2017, arXiv 1706.08840.

    In percentage points. None for a single task.
    """
    last = len(matrix) - 1
    return float(np.mean([matrix[last][k] - matrix[k][k] for k in range(last)])) if last else None


def learning_accuracy(matrix: Matrix) -> float:
    """Mean over k of a(k, k) in percent: accuracy on a task just after it was learned; Riemer et al. 2019, 1810.11910.

    As in the other metrics, all classes learned so far compete.
    """
    return float(np.mean([row[-1] for row in matrix]))


def run_metrics(predictions: pd.DataFrame, task_sizes: Sequence[int], protocol: str) -> dict[str, Any]:
    """Compute all metrics of one run, in plain types.

    Args:
        predictions: see `read_predictions`.
        task_sizes: classes of each task, in order.
        protocol: "incremental" or "joint". A joint model learns all tasks at once, so metrics that compare a task with
            its own past are None.

    Raises:
        UserError: the predictions are incomplete.
    """
    check_predictions(predictions, task_sizes)
    matrix = accuracy_matrix(predictions, task_sizes)
    curve = accuracy(predictions)
    joint = protocol == "joint"
    return {
        "accuracy_matrix": matrix,
        "accuracy": curve,
        "average_accuracy": average_accuracy(curve),
        "final_accuracy": curve[-1],
        "forgetting": None if joint else forgetting(matrix),
        "backward_transfer": None if joint else backward_transfer(matrix),
        "learning_accuracy": None if joint else learning_accuracy(matrix),
        "test_images": int(predictions["image"].nunique()),
    }
