"""State files: what a learner keeps after a task, and where it came from. One safetensors file each, never pickle."""

import json
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ntkcl.config import Run
from ntkcl.errors import UserError
from ntkcl.files import write_atomically
from ntkcl.methods.learner import Learner
from ntkcl.settings import Task

FORMAT = "ntkcl state 1"
LEARNER, RANDOM = "learner/", "random/"


def save_state(path: Path, learner: Learner, run: Run, task: Task, provenance: dict) -> None:
    """Write the learner's state and torch's random state after `task`.

    Raises:
        UserError: the file cannot be written.
    """
    about = {
        "format": FORMAT,
        "run": run.name,
        "task": task.index,
        "digest": run.digest,
        "seed": run.seed,
        "provenance": provenance,
    }
    tensors = {LEARNER + name: tensor for name, tensor in learner.state().items()}
    tensors[RANDOM + "cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors[RANDOM + "cuda"] = torch.cuda.get_rng_state()
    # a single key, since the order of several is not the same in every process
    metadata = {"ntkcl": json.dumps(about, sort_keys=True)}
    write_atomically(path, lambda temporary: save_file(tensors, temporary, metadata))


def load_state(path: Path, learner: Learner, run: Run, learned: Iterable[Task]) -> dict:
    """Load the state that `run` has after the tasks `learned` into `learner`, and torch's random state.

    Returns:
        What the file says about itself.

    Raises:
        UserError: the file is missing, truncated, foreign, or made with other settings.
    """
    learned = list(learned)
    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {}).get("ntkcl", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; run the task before (`snakemake --cores all {path}`)") from error
    except (SafetensorError, ValueError, OSError) as error:
        raise UserError(f"{path} is damaged ({error}); delete it and run the same command again") from error
    if about.get("format") != FORMAT:
        raise UserError(f"{path} is not a state of ntkcl; delete it and run the same command again")
    expected = {"run": run.name, "digest": run.digest, "task": learned[-1].index}
    for key, value in expected.items():
        if about[key] != value:
            raise UserError(
                f"{path} was made with other settings ({key} {about[key]}, now {value}); "
                f"restore the settings, or delete {path.parent} and run the same command again"
            )
    try:
        own = {name.removeprefix(LEARNER): t for name, t in tensors.items() if name.startswith(LEARNER)}
        learner.load_state(own, learned)
        torch.set_rng_state(tensors[RANDOM + "cpu"])
    except (RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(
            f"{path} does not fit its method ({reason}); delete it and run the same command again"
        ) from error
    if torch.cuda.is_available() and RANDOM + "cuda" in tensors:
        torch.cuda.set_rng_state(tensors[RANDOM + "cuda"])
    return about
