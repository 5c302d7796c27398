"""Train one task of a run, from the state of the task before."""

import hashlib
import math
import os
from typing import TYPE_CHECKING

import torch

from ntkcl import backbones, gpus, parallel
from ntkcl.config import Run
from ntkcl.data.stream import TaskStream
from ntkcl.errors import UserError
from ntkcl.files import write_text
from ntkcl.methods import learner_class
from ntkcl.methods.learner import Learner
from ntkcl.peft.vit import in_precision
from ntkcl.provenance import provenance
from ntkcl.settings import Training
from ntkcl.training.checkpoint import Checkpoints
from ntkcl.training.loop import LossLog, OnEpoch, learn_task
from ntkcl.training.state import load_state, save_state

if TYPE_CHECKING:
    from ntkcl.backbones.timm_vit import VisionTransformer

PATIENCE = 60.0  # seconds that a process of several waits for its GPU
CHECKPOINT_PAUSE = 300.0  # seconds between two checkpoints within a task
FROZEN_IMAGES = 64  # that the frozen branches see at once on a GPU, if a batch has fewer


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
    local = int(os.environ.get("LOCAL_RANK", "0"))  # of torchrun's processes on this machine
    patience = PATIENCE if "LOCAL_RANK" in os.environ else math.inf  # each holding one, two runs could wait for ever
    index = gpus.claim(devices, gpus.jobs_per_gpu(), wait or name == "cuda", patience) if devices else local
    device = torch.device("cuda", index)
    torch.cuda.set_device(device)
    torch.cuda.init()  # a state's random numbers are for it, too
    return device


def precision_on(device: torch.device, training: Training) -> str:
    """The type that the backbone's products are computed in on `device`: "float32" or "bfloat16"."""
    if training.precision == "auto":
        has_units = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return "bfloat16" if has_units else "float32"
    return training.precision


def ahead_on(device: torch.device, training: Training) -> int:
    """How many batches the frozen branches look at together: on a GPU, small ones would leave it idle."""
    return max(1, FROZEN_IMAGES // training.batch_size) if device.type == "cuda" else 1


def backbone_of(run: Run, device: torch.device) -> "VisionTransformer":
    """The frozen backbone of a run, in the precision that its training has on `device`, on the CPU."""
    return in_precision(backbones.load(run.backbone_name), precision_on(device, run.training))


def new_learner(run: Run, backbone: "VisionTransformer") -> Learner:
    """A learner that has not learned anything, on `backbone`."""
    return learner_class(run.method.learner)(backbone, run.settings)


def train_task(
    run: Run,
    index: int,
    device: torch.device,
    on_epoch: OnEpoch = lambda epoch, epochs, loss: None,
    checkpoint_pause: float = CHECKPOINT_PAUSE,
    compile_mode: str | None = None,
) -> LossLog:
    """Train task `index` of a run from the state of the task before; write its losses and its state.

    The random state goes on from task to task, so that the tasks in processes of their own give what one process gives.
    What a process that was stopped or killed has left in `checkpoint.safetensors` is gone on from: on a CPU, the files
    are the same as without the stop.

    Args:
        checkpoint_pause: seconds between two checkpoints.
        compile_mode: as for `learn_task`.

    Raises:
        UserError: an input is missing or wrong, a loss is not finite, a file cannot be written, or the process was told
            to stop.
    """
    tasks = run.tasks
    if not 0 <= index < len(tasks):
        raise UserError(f"{run.name} has no task {index}; it has tasks 0 to {len(tasks) - 1}")
    parallel.start(device)
    task, stream = tasks[index], TaskStream.of(run)
    torch.manual_seed(run.seed)  # the only generators that training draws from are torch's
    learner = new_learner(run, backbone_of(run, device))
    if index:
        load_state(run.state_path(index - 1), learner, run, tasks[:index], stream)
    if rank := parallel.rank():  # dropout is each process's own; what must be common is the first one's
        torch.manual_seed(run.seed + (index + 1) * 1_000_003 + rank)
    learner.to(device)
    path, images = run.state_path(index), stream.train_images(task, device)
    checkpoints = _checkpoints(run, index, device, stream, checkpoint_pause)
    ahead = ahead_on(device, run.training)
    earlier = ((old, stream.train_images(old, device)) for old in tasks[:index]) if learner.recalls else None
    log = learn_task(learner, task, images, run.training, on_epoch, checkpoints, ahead, compile_mode, earlier)
    if parallel.rank() == 0:
        write_text(path.with_name("losses.csv"), log.csv())
        save_state(path, learner, run, task, stream, checkpoints.made_with)
    checkpoints.delete()
    return log


def _checkpoints(run: Run, index: int, device: torch.device, stream: TaskStream, pause: float) -> Checkpoints:
    about = {"digest": run.digest, "run": run.name, "task": index, "content": stream.summary["content"]}
    about |= {"weights": backbones.about(run.backbone_name)["fingerprint"], "processes": parallel.count()}
    if index:  # made anew with other bytes, it is another task
        with run.state_path(index - 1).open("rb") as file:
            about["earlier_tasks"] = hashlib.file_digest(file, "sha256").hexdigest()
    made = provenance(device.type, precision_on(device, run.training))
    return Checkpoints(run.state_path(index).with_name("checkpoint.safetensors"), about, made, pause)
