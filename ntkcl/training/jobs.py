"""The two jobs of a run: train one task from the state before it, and evaluate all its states."""

import random
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ntkcl import backbones
from ntkcl.config import Run
from ntkcl.data.stream import TaskStream
from ntkcl.errors import UserError
from ntkcl.files import write_atomically, write_json, write_text
from ntkcl.methods import learner_class
from ntkcl.methods.learner import Learner
from ntkcl.metrics import run_metrics
from ntkcl.provenance import provenance
from ntkcl.training.loop import ArrayImages, LossLog, learn_task
from ntkcl.training.state import load_state, save_state


def choose_device(name: str) -> torch.device:
    """The device called `name`: "cpu", "cuda", or "auto" for a GPU if there is one.

    Raises:
        UserError: a GPU is asked for and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("no GPU that torch can use; take --device cpu, or install a driver")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def seed_everything(seed: int) -> None:
    """Seed torch (all devices), numpy and Python."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def new_learner(run: Run) -> Learner:
    """A learner that has not learned anything, on its frozen backbone."""
    return learner_class(run.method.learner)(backbones.load(run.backbone_name), run.settings)


def train_task(
    run: Run, index: int, device: torch.device, on_epoch: Callable[[int, int, float], None] | None = None
) -> LossLog:
    """Train task `index` of a run from the state of the task before; write its losses and its state.

    The random state goes on from task to task, so that the tasks in processes of their own give what one process gives.

    Raises:
        UserError: an input is missing or wrong, a loss is not finite, or a file cannot be written.
    """
    tasks = run.tasks
    if not 0 <= index < len(tasks):
        raise UserError(f"{run.name} has no task {index}; it has tasks 0 to {len(tasks) - 1}")
    task, stream = tasks[index], TaskStream.of(run)
    seed_everything(run.seed)
    learner = new_learner(run)
    if index:
        load_state(run.state_path(index - 1), learner, run, tasks[:index])
    learner.to(device)
    rows = stream.train_rows(task)
    images = ArrayImages(stream.images[rows], stream.labels[rows], device)
    log = learn_task(learner, task, images, run.training, *([on_epoch] if on_epoch else []))
    path = run.state_path(index)
    write_text(path.with_name("losses.csv"), log.csv())
    save_state(path, learner, run, task, provenance(device.type))
    return log


def evaluate(run: Run, device: torch.device) -> dict:
    """Predict the test images of all classes seen, after each task; write predictions and metrics.

    A joint run is one model for all classes: after task t it is tested on the classes of the first t tasks, among them.

    Returns:
        The content of `metrics.json`.
    """
    stream, sizes = TaskStream.of(run), run.dataset.task_sizes
    tables, scores_of = [], None
    for index in range(len(sizes)):
        if index < len(run.tasks):
            scores_of, about = _scorer(run, index, stream, device)
        tables.append(_predictions(index, stream, sum(sizes[: index + 1]), scores_of))
    predictions = pd.concat(tables, ignore_index=True)
    content = {
        "run": run.describe(),
        "digest": run.digest,
        "provenance": about["provenance"],
        "metrics": run_metrics(predictions, sizes, run.method.protocol),
    }
    compression = {"method": "gzip", "mtime": 1}
    write_atomically(
        run.folder / "predictions.csv.gz",
        lambda path: predictions.to_csv(path, index=False, compression=compression, float_format="%.6g"),
    )
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
