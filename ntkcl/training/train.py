"""Train one task of a run, from the state of the task before."""

import os
from collections.abc import Callable

import torch

from ntkcl import backbones, gpus
from ntkcl.config import Run
from ntkcl.data.stream import TaskStream
from ntkcl.errors import UserError
from ntkcl.files import write_text
from ntkcl.methods import learner_class
from ntkcl.methods.learner import Learner
from ntkcl.provenance import provenance
from ntkcl.training.loop import LossLog, learn_task
from ntkcl.training.state import load_state, save_state


def choose_device(name: str, wait: bool = True) -> torch.device:
    """The device called `name`: "cpu", "cuda", or "auto" for a GPU if there is one.

    A GPU is this process's until it ends: it waits while other processes have them all (`ntkcl.gpus`).

    Args:
        name: of the device.
        wait: if false, "auto" shares a GPU with those who have it instead of waiting; for what is soon done.

    Raises:
        UserError: a GPU is asked for and there is none.
    """
    if name == "cpu":
        return torch.device("cpu")
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # number the GPUs as nvidia-smi does
    if not torch.cuda.is_available():
        if name == "cuda":
            raise UserError("no GPU that torch can use; take --device cpu, or install a driver")
        return torch.device("cpu")
    devices = gpus.visible()
    index = gpus.claim(devices, gpus.jobs_per_gpu(), wait or name == "cuda") if devices else 0
    device = torch.device("cuda", index)
    torch.cuda.set_device(device)
    return device


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
    torch.manual_seed(run.seed)  # the only generators that training draws from are torch's
    learner = new_learner(run)
    if index:
        load_state(run.state_path(index - 1), learner, run, tasks[:index], stream)
    learner.to(device)
    log = learn_task(learner, task, stream.train_images(task, device), run.training, *([on_epoch] if on_epoch else []))
    path = run.state_path(index)
    write_text(path.with_name("losses.csv"), log.csv())
    save_state(path, learner, run, task, stream, provenance(device.type))
    return log
