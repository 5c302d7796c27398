"""State files: what a learner keeps after a task, and where it came from. One safetensors file each, never pickle.

A state can be used without `params/`: it names its classes, and the model that it belongs to.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import Tensor

from ntkcl.backbones.files import weights_metadata
from ntkcl.data.loading.task_stream import TaskStream
from ntkcl.devices.random_state import random_state, set_random_state
from ntkcl.errors import UserError
from ntkcl.methods.learner import Learner
from ntkcl.runs import Run
from ntkcl.settings.models import Model, Preprocessing, Training
from ntkcl.storage.tensors import add_prefix, read_tensors, strip_prefix, write_tensors
from ntkcl.tasks import Task

FORMAT, VERSION = "ntkcl-state", 3


def save_state(path: Path, learner: Learner, run: Run, task: Task, stream: TaskStream, made_with: list[dict]) -> None:
    """Write the learner's state and torch's random state after `task` of `stream`.

    Args:
        made_with: of each process that went on with the training; most have one.

    Raises:
        UserError: the file cannot be written.
    """
    about = {"digest": run.digest, "run": run.name, "seed": run.seed, "task": task.index, "tasks": task.count}
    about |= {"classes": stream.classes[: task.classes_seen], "provenance": made_with[-1], "earlier": made_with[:-1]}
    about["content"] = stream.summary["content"]
    about["task_sizes"] = [each.size for each in run.tasks[: task.index + 1]]
    weights = weights_metadata(run.backbone_name)
    about["model"] = model_config(run.method.learner, weights, run.settings, run.training, run.preprocessing)
    write_state(path, learner, about)


def load_state(path: Path, learner: Learner, run: Run, learned: Iterable[Task], stream: TaskStream) -> dict:
    """Load the state that `run` has after the tasks `learned` of `stream` into `learner`, and torch's random state.

    Returns:
        What the file says about itself.

    Raises:
        UserError: the file is missing, truncated, foreign, or made with other settings, images or weights.
    """
    learned = list(learned)
    remedy = f"run `snakemake --cores all {path}`"
    if path.exists():
        remedy = f"delete {path.parent} and {remedy}"
    tensors, about = read_tensors(path, FORMAT, VERSION, run.digest, remedy)
    if (about.get("run"), about.get("task")) != (run.name, learned[-1].index):
        raise UserError(f"{path} is the state of task {about.get('task')} of {about.get('run')}; {remedy}")
    if about["content"] != stream.summary["content"]:
        raise UserError(f"{path} was learned on other images than those in data/{run.dataset_name} now; {remedy}")
    if about["model"]["weights"] != weights_metadata(run.backbone_name)["fingerprint"]:
        raise UserError(f"{path} was learned on other weights than those of {run.backbone_name} now; {remedy}")
    restore_learner(learner, tensors, learned, f"{path} does not fit its method", remedy)
    return about


def write_state(path: Path, learner: Learner, about: dict[str, Any]) -> None:
    """Write the learner's state and torch's random state, and what is known `about` them.

    Raises:
        UserError: the file cannot be written.
    """
    tensors = add_prefix("learner", learner.own_tensors()) | add_prefix("random", random_state())
    write_tensors(path, tensors, {"format": FORMAT, "version": VERSION} | about)


def restore_learner(
    learner: Learner, tensors: dict[str, Tensor], learned: Iterable[Task], problem: str, remedy: str
) -> None:
    """Give `learner` the `tensors` of a state after the tasks `learned`, and torch its random state.

    Raises:
        UserError: `problem` and `remedy`, if they do not fit.
    """
    try:
        learner.load_state(strip_prefix("learner", tensors), learned)
        set_random_state(strip_prefix("random", tensors))
    except (RuntimeError, KeyError) as error:
        raise UserError(f"{problem} ({' '.join(str(error).split())[:160]}); {remedy}") from error


def model_config(
    learner: str, backbone: dict[str, Any], settings: Model, training: Training, preprocessing: Preprocessing
) -> dict[str, Any]:
    """What is needed to build a model again, in plain types; `backbone` is what its file says about itself."""
    models = {"settings": settings, "training": training, "preprocessing": preprocessing}
    about = {name: model.model_dump(mode="json") for name, model in models.items()}
    about |= {"learner": learner, "backbone": backbone["backbone"], "weights": backbone["fingerprint"]}
    return about | {"architecture": backbone["architecture"]}
