"""Evaluate all states of a run: predictions for each image, and the metrics computed from them."""

import gzip

import pandas as pd
import torch

from ntkcl.config import Run
from ntkcl.data.loading import ArrayImages, ViewedImages
from ntkcl.data.stream import TaskStream
from ntkcl.files import write_atomically, write_json
from ntkcl.methods.learner import Learner
from ntkcl.metrics import run_metrics
from ntkcl.provenance import provenance
from ntkcl.training.state import load_state
from ntkcl.training.train import new_learner


def evaluate(run: Run, device: torch.device) -> dict:
    """Predict the test images of all classes seen, after each task; write predictions and metrics.

    A joint run is one model for all classes: after task t it is tested on the classes of the first t tasks, among them.

    Returns:
        The content of `metrics.json`.
    """
    stream, sizes = TaskStream.of(run), run.dataset.task_sizes
    tables, made_with = [], [provenance(device.type)]
    for index in range(len(sizes)):
        if index < len(run.tasks):
            learner = new_learner(run)
            about = load_state(run.state_path(index), learner, run, run.tasks[: index + 1], stream)
            learner.to(device).eval()
            made_with += [about["provenance"]] if about["provenance"] not in made_with else []
        classes_seen = sum(sizes[: index + 1])
        tables.append(_predictions(index, learner, stream.test_images(classes_seen, device), classes_seen))
    predictions = pd.concat(tables, ignore_index=True)
    content = {
        "run": run.describe(),
        "digest": run.digest,
        "provenance": made_with,
        "data": stream.summary,
        "metrics": run_metrics(predictions, sizes, run.method.protocol),
    }
    # gzip's header would hold the time and a name: without them, equal predictions are equal bytes
    table = gzip.compress(predictions.to_csv(index=False, float_format="%.6g").encode(), mtime=0)
    write_atomically(run.folder / "predictions.csv.gz", lambda path: path.write_bytes(table))
    write_json(run.folder / "metrics.json", content)
    return content


@torch.no_grad()
def _predictions(index: int, learner: Learner, images: ArrayImages | ViewedImages, classes_seen: int) -> pd.DataFrame:
    """One row for each image: its class, the one predicted among the classes seen, and that one's score."""
    scores = torch.cat([learner.scores(batch).cpu() for batch, _ in images.in_order()])
    score, predicted = scores[:, :classes_seen].max(dim=1)
    return pd.DataFrame(
        {
            "task": index,
            "image": images.ids,
            "class": images.labels.numpy(),
            "predicted": predicted.numpy(),
            "score": score.numpy(),
        }
    )
