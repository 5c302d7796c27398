"""Evaluate all states of a run: predictions for each image, and the metrics computed from them."""

import gzip
from itertools import cycle

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ntkcl.data.loading.batches import ArrayImages, TransformedImages
from ntkcl.data.loading.task_stream import TaskStream
from ntkcl.devices import distributed
from ntkcl.devices.compute import precision_on
from ntkcl.methods.learner import Learner
from ntkcl.metrics.continual import run_metrics
from ntkcl.runs import Run
from ntkcl.storage.files import write_atomically, write_json
from ntkcl.storage.provenance import provenance
from ntkcl.tasks import Task, tasks_of
from ntkcl.training.parts import backbone_of, new_learner, stream_of
from ntkcl.training.state import load_state


def evaluate(run: Run, device: torch.device) -> dict:
    """Predict the test images of all classes seen, after each task; write predictions and metrics.

    A joint run is one model for all classes: after task t it is tested on the classes of the first t tasks, among them.

    Returns:
        The content of `metrics.json`.
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
        write_json(run.folder / "metrics.json", content)
    return content


def _learners(run: Run, stream: TaskStream, device: torch.device) -> tuple[list[Learner], list[dict]]:
    """The learner after each task, all on one backbone, and what they and this evaluation are made with."""
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
    """One row for each task and image of the classes seen: its class, the one predicted among these, and its score.

    Each image is read once, and all learners that have seen its class look at it (of a joint run, the only one, once).
    """
    tables, tasks = [], tasks_of(sizes)
    is_joint = len(learners) < len(tasks)
    for new in tasks:
        later, images = tasks[new.index :], stream.test_images(new.first_class, new.classes_seen, device)
        best = _best(learners if is_joint else learners[new.index :], later, images)
        for task, (score, predicted) in zip(later, best, strict=True):
            columns = {"class": images.labels.numpy(), "predicted": predicted.numpy(), "score": score.numpy()}
            tables.append(pd.DataFrame({"task": task.index, "image": images.ids} | columns))
    row = {name: row for row, name in enumerate(stream.images.manifest.ids)}
    table = pd.concat(tables)
    return table.iloc[np.lexsort((table["image"].map(row), table["task"]))].reset_index(drop=True)


@torch.no_grad()
def _best(
    learners: list[Learner], later: list[Task], images: ArrayImages | TransformedImages
) -> list[tuple[Tensor, Tensor]]:
    """The best score of each image and its class after each task, by the task's learner or by the only one."""
    parts = [[] for _ in later]
    for batch, _ in images.eval_batches():
        scores = [learner.scores(batch) for learner in learners]
        for part, task, of_task in zip(parts, later, cycle(scores), strict=False):
            part.append(of_task[:, : task.classes_seen].max(dim=1))
    shares = [tuple(torch.cat(column).cpu() for column in zip(*part, strict=True)) for part in parts]
    everywhere = zip(*distributed.all_gather_object(shares), strict=True)
    return [tuple(torch.cat(column) for column in zip(*of_task, strict=True)) for of_task in everywhere]
