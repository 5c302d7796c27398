"""Evaluate all states of a run: predictions for each image, and the metrics computed from them."""

import gzip
from collections.abc import Callable

import pandas as pd
import torch
from torch import Tensor

from ntkcl.config import Run
from ntkcl.data.stream import TaskStream
from ntkcl.files import write_atomically, write_json
from ntkcl.metrics import run_metrics
from ntkcl.provenance import provenance
from ntkcl.training.loop import ArrayImages
from ntkcl.training.state import load_state
from ntkcl.training.train import new_learner


def evaluate(run: Run, device: torch.device) -> dict:
    """Predict the test images of all classes seen, after each task; write predictions and metrics.

    A joint run is one model for all classes: after task t it is tested on the classes of the first t tasks, among them.

    Returns:
        The content of `metrics.json`.
    """
    stream, sizes = TaskStream.of(run), run.dataset.task_sizes
    tables, scores_of, made_with = [], None, [provenance(device.type)]
    for index in range(len(sizes)):
        if index < len(run.tasks):
            scores_of, about = _scorer(run, index, stream, device)
            made_with += [about["provenance"]] if about["provenance"] not in made_with else []
        tables.append(_predictions(index, stream, sum(sizes[: index + 1]), scores_of))
    predictions = pd.concat(tables, ignore_index=True)
    content = {
        "run": run.describe(),
        "digest": run.digest,
        "provenance": made_with,
        "metrics": run_metrics(predictions, sizes, run.method.protocol),
    }
    # gzip's header would hold the time and a name: without them, equal predictions are equal bytes
    table = gzip.compress(predictions.to_csv(index=False, float_format="%.6g").encode(), mtime=0)
    write_atomically(run.folder / "predictions.csv.gz", lambda path: path.write_bytes(table))
    write_json(run.folder / "metrics.json", content)
    return content


def _scorer(run: Run, index: int, stream: TaskStream, device: torch.device) -> tuple[Callable[[Tensor], Tensor], dict]:
    """A function from rows of the stream to scores after task `index`, and what the state says of itself."""
    learner = new_learner(run)
    about = load_state(run.state_path(index), learner, run, run.tasks[: index + 1])
    learner.to(device).eval()

    @torch.no_grad()
    def scores_of(rows: Tensor) -> Tensor:
        images = ArrayImages(stream.images[rows], stream.labels[rows], device)
        return torch.cat([learner.scores(batch).cpu() for batch, _ in images.in_order()])

    return scores_of, about


def _predictions(
    index: int, stream: TaskStream, classes_seen: int, scores_of: Callable[[Tensor], Tensor]
) -> pd.DataFrame:
    """One row for each test image of the classes seen: its class, the predicted one, and that one's score."""
    rows = stream.test_rows(classes_seen)
    score, predicted = scores_of(rows)[:, :classes_seen].max(dim=1)
    return pd.DataFrame(
        {
            "task": index,
            "image": [stream.ids[row] for row in rows.tolist()],
            "class": stream.labels[rows].numpy(),
            "predicted": predicted.numpy(),
            "score": score.numpy(),
        }
    )
