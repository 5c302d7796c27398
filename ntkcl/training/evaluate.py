"""Evaluate all states of a run: predictions for each image, and the metrics computed from them."""

import gzip
from itertools import cycle

import numpy as np
import pandas as pd
import torch
from rich.console import Console
from torch import Tensor

from ntkcl.data.loading.batches import ArrayImages, TransformedImages
from ntkcl.data.loading.task_stream import TaskStream
from ntkcl.devices import distributed
from ntkcl.devices.compute import precision_on
from ntkcl.methods.learner import Learner
from ntkcl.metrics.continual import run_metrics
from ntkcl.progress import Report, shown
from ntkcl.runs import Run
from ntkcl.storage.files import write_atomically, write_sealed_json
from ntkcl.storage.provenance import provenance
from ntkcl.tasks import Task, tasks_of
from ntkcl.training.parts import backbone_of, new_learner, stream_of
from ntkcl.training.state import load_state


def evaluate(run: Run, device: torch.device) -> dict:
    """Predict the test images of all learned classes, after each task; write predictions and metrics.

    A joint run is one model for all classes: for task t it is tested on, and chooses among, the classes of the first t
    tasks.

    Returns:
        The content of `metrics.json`.

    Raises:
        UserError: an input is missing or wrong, or a file cannot be written.
    """
    distributed.start(device)
    stream, sizes = stream_of(run), run.dataset.task_sizes
    learners, made_with = _learners(run, stream, device)
    predictions = _predictions(learners, stream, sizes, device)
    content = {
        "run": run.describe(),
        "digest": run.digest,
        "provenance": made_with,
        "data": stream.summary,
        "metrics": run_metrics(predictions, sizes, run.method.protocol),
    }
    if distributed.rank() == 0:
        # gzip's header would hold the time and a name: without them, equal predictions are equal bytes
        table = gzip.compress(predictions.to_csv(index=False, float_format="%.6g").encode(), mtime=0)
        write_atomically(run.folder / "predictions.csv.gz", lambda path: path.write_bytes(table))
        write_sealed_json(run.folder / "metrics.json", content)
    return content


def _learners(run: Run, stream: TaskStream, device: torch.device) -> tuple[list[Learner], list[dict]]:
    """Learners after each task, all on one backbone, and the provenance of them and of this evaluation."""
    backbone = backbone_of(run, device).to(device)
    learners, made_with = [], [provenance(device.type, precision_on(device, run.training.precision))]
    for task in run.tasks:
        learner = new_learner(run, backbone)
        about = load_state(run.state_path(task.index), learner, run, run.tasks[: task.index + 1], stream)
        learners.append(learner.to(device).eval())
        made = [*about.get("earlier", []), about["provenance"]]
        made_with += [each for each in made if each not in made_with]
    return learners, made_with


def _predictions(learners: list[Learner], stream: TaskStream, sizes: list[int], device: torch.device) -> pd.DataFrame:
    """One row for each task and image of the learned classes: its class, the predicted class, and its score.

    Each image is read once, for all learners that know its class (in a joint run, the only one).
    """
    tables, tasks, done = [], tasks_of(sizes), 0
    is_joint, console = len(learners) < len(tasks), Console(stderr=True, quiet=distributed.rank() > 0)
    with shown("evaluating", int(stream.is_test.sum()), "images", console) as report:
        for new in tasks:
            later, images = tasks[new.index :], stream.test_images(new.first_class, new.classes_learned, device)
            best = _best(learners if is_joint else learners[new.index :], later, images, report, done)
            done += len(images.labels)
            for task, (score, predicted) in zip(later, best, strict=True):
                columns = {"class": images.labels.numpy(), "predicted": predicted.numpy(), "score": score.numpy()}
                tables.append(pd.DataFrame({"task": task.index, "image": images.ids} | columns))
    row = {name: row for row, name in enumerate(stream.images.manifest.ids)}
    table = pd.concat(tables)
    return table.iloc[np.lexsort((table["image"].map(row), table["task"]))].reset_index(drop=True)


@torch.no_grad()
def _best(
    learners: list[Learner], later: list[Task], images: ArrayImages | TransformedImages, report: Report, done: int
) -> list[tuple[Tensor, Tensor]]:
    """Best score of each image and its class after each task, by the task's learner or by the only one.

    Args:
        done: number of images before these, for the report.
    """
    parts = [[] for _ in later]
    for batch, _ in images.eval_batches():
        scores = learners[0].scores_of_states(learners, batch)
        for part, task, of_task in zip(parts, later, cycle(scores), strict=False):
            part.append(of_task[:, : task.classes_learned].max(dim=1))
        done += len(batch) * distributed.world_size()
        report(done)
    shares = [tuple(torch.cat(column).cpu() for column in zip(*part, strict=True)) for part in parts]
    everywhere = zip(*distributed.all_gather_object(shares), strict=True)
    return [tuple(torch.cat(column) for column in zip(*of_task, strict=True)) for of_task in everywhere]
