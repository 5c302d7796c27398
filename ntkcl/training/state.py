"""State files: a learner after a task, with its provenance, as safetensors, never pickle.

A state can be used without `params/`: it contains its classes and the settings of its model. What only the next task
reads (`Learner.for_next_task`) is in a second file beside it.
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


def next_task_path(path: Path) -> Path:
    """Return the path of the second file of the state `path`."""
    return path.with_name("next_task.safetensors")


def save_state(path: Path, learner: Learner, run: Run, task: Task, stream: TaskStream, made_with: list[dict]) -> None:
    """Write the learner's state and torch's random state after `task` of `stream`.

    Args:
        made_with: provenance of each process that trained; most have one.

    Raises:
        UserError: the file cannot be written.
    """
    metadata = {"digest": run.digest, "run": run.name, "seed": run.seed, "task": task.index, "tasks": task.count}
    metadata |= {
        "classes": stream.classes[: task.classes_learned],
        "provenance": made_with[-1],
        "earlier": made_with[:-1],
    }
    metadata["planned"] = {"stream_tasks": task.stream_tasks, "stream_classes": task.stream_classes}
    metadata["content"] = stream.summary["content"]
    metadata["task_sizes"] = [each.size for each in run.tasks[: task.index + 1]]
    weights = weights_metadata(run.backbone_name)
    metadata["model"] = model_config(run.method.learner, weights, run.settings, run.training, run.preprocessing)
    tensors = learner.own_tensors()
    if rest := {name: tensors.pop(name) for name in list(tensors) if learner.is_for_next_task(name)}:
        _write(next_task_path(path), add_prefix("learner", rest), metadata)
    _write(path, add_prefix("learner", tensors) | add_prefix("random", random_state()), metadata)


def load_state(
    path: Path, learner: Learner, run: Run, learned: Iterable[Task], stream: TaskStream, to_learn: bool = False
) -> dict:
    """Load the state of `run` after the tasks `learned` into `learner`, and torch's random state.

    Args:
        to_learn: also load what only the next task reads.

    Returns:
        The metadata of the file.

    Raises:
        UserError: the file is missing, truncated, foreign, or made with other settings, images or weights.
    """
    learned = list(learned)
    remedy = f"run `snakemake --cores all {path}`"
    if path.exists():
        remedy = f"delete {path.parent} and {remedy}"
    tensors, metadata = read_tensors(path, FORMAT, VERSION, run.digest, remedy)
    if to_learn:
        tensors |= read_next_task(path, learner, tensors, metadata, remedy)
    if (metadata.get("run"), metadata.get("task")) != (run.name, learned[-1].index):
        raise UserError(f"{path} is the state of task {metadata.get('task')} of {metadata.get('run')}; {remedy}")
    if metadata["content"] != stream.summary["content"]:
        raise UserError(f"{path} was learned on other images than those in data/{run.dataset_name} now; {remedy}")
    if metadata["model"]["weights"] != weights_metadata(run.backbone_name)["fingerprint"]:
        raise UserError(f"{path} was learned on other weights than those of {run.backbone_name} now; {remedy}")
    restore_learner(learner, tensors, learned, f"{path} does not fit its method", remedy)
    return metadata


def read_next_task(
    path: Path, learner: Learner, tensors: dict[str, Tensor], metadata: dict[str, Any], remedy: str
) -> dict[str, Tensor]:
    """Read what only the next task reads, if the `tensors` of the state `path` do not have it.

    Raises:
        UserError: the second file is missing or damaged, or belongs to another state than one with `metadata`.
    """
    missing = set(learner.own_tensors()) - set(strip_prefix("learner", tensors))
    if not any(learner.is_for_next_task(name) for name in missing):
        return {}
    rest, about = read_tensors(next_task_path(path), FORMAT, VERSION, metadata["digest"], remedy)
    if about != metadata:
        raise UserError(f"{next_task_path(path)} belongs to another state than {path}; {remedy}")
    return rest


def write_state(path: Path, learner: Learner, metadata: dict[str, Any]) -> None:
    """Write the learner's whole state and torch's random state to one file, with `metadata`.

    Raises:
        UserError: the file cannot be written.
    """
    _write(path, add_prefix("learner", learner.own_tensors()) | add_prefix("random", random_state()), metadata)


def _write(path: Path, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    write_tensors(path, tensors, {"format": FORMAT, "version": VERSION} | metadata)


def restore_learner(
    learner: Learner, tensors: dict[str, Tensor], learned: Iterable[Task], problem: str, remedy: str
) -> None:
    """Load the `tensors` of a state after the tasks `learned` into `learner`, and its random state into torch.

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
    """Return what is needed to build a model again, in plain types; `backbone` is the metadata of its file."""
    models = {"settings": settings, "training": training, "preprocessing": preprocessing}
    config = {name: model.model_dump(mode="json") for name, model in models.items()}
    config |= {"learner": learner, "backbone": backbone["backbone"], "weights": backbone["fingerprint"]}
    return config | {"architecture": backbone["architecture"]}
