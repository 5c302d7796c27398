"""State files: what a learner keeps after a task, and where it came from. One safetensors file each, never pickle."""

from collections.abc import Iterable
from pathlib import Path

import torch

from ntkcl.config import Run
from ntkcl.errors import UserError
from ntkcl.methods.learner import Learner
from ntkcl.settings import Task
from ntkcl.tensors import read_tensors, write_tensors

FORMAT, VERSION = "ntkcl-state", 1
LEARNER, RANDOM = "learner/", "random/"


def save_state(path: Path, learner: Learner, run: Run, task: Task, provenance: dict) -> None:
    """Write the learner's state and torch's random state after `task`.

    Raises:
        UserError: the file cannot be written.
    """
    about = {"format": FORMAT, "version": VERSION, "digest": run.digest, "run": run.name, "seed": run.seed}
    about |= {"task": task.index, "provenance": provenance}
    tensors = {LEARNER + name: tensor for name, tensor in learner.state().items()}
    tensors[RANDOM + "cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors[RANDOM + "cuda"] = torch.cuda.get_rng_state()
    write_tensors(path, tensors, about)


def load_state(path: Path, learner: Learner, run: Run, learned: Iterable[Task]) -> dict:
    """Load the state that `run` has after the tasks `learned` into `learner`, and torch's random state.

    Returns:
        What the file says about itself.

    Raises:
        UserError: the file is missing, truncated, foreign, or made with other settings.
    """
    learned = list(learned)
    remedy = f"run `snakemake --cores all {path}`"
    if path.exists():
        remedy = f"delete {path.parent} and {remedy}"
    tensors, about = read_tensors(path, FORMAT, VERSION, run.digest, remedy)
    if (about.get("run"), about.get("task")) != (run.name, learned[-1].index):
        raise UserError(f"{path} is the state of task {about.get('task')} of {about.get('run')}; {remedy}")
    try:
        own = {name.removeprefix(LEARNER): t for name, t in tensors.items() if name.startswith(LEARNER)}
        learner.load_state(own, learned)
        torch.set_rng_state(tensors[RANDOM + "cpu"])
    except (RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"{path} does not fit its method ({reason}); {remedy}") from error
    if torch.cuda.is_available() and RANDOM + "cuda" in tensors:
        torch.cuda.set_rng_state(tensors[RANDOM + "cuda"])
    return about
