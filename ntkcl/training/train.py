"""Train one task of a run, from the state of the task before."""

import hashlib

import torch

from ntkcl.backbones.files import weights_metadata
from ntkcl.data.loading.task_stream import TaskStream
from ntkcl.devices import distributed
from ntkcl.devices.compute import batches_per_frozen_pass, precision_on
from ntkcl.errors import UserError
from ntkcl.runs import Run
from ntkcl.storage.files import write_text
from ntkcl.storage.provenance import provenance
from ntkcl.training.checkpoint import Checkpoints
from ntkcl.training.loop import LossLog, OnEpoch, learn_task
from ntkcl.training.parts import backbone_of, new_learner, stream_of
from ntkcl.training.state import load_state, save_state

CHECKPOINT_SECONDS = 300.0  # between two checkpoints within a task


def train_task(
    run: Run,
    index: int,
    device: torch.device,
    on_epoch: OnEpoch = lambda epoch, epochs, loss: None,
    checkpoint_pause: float = CHECKPOINT_SECONDS,
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
    distributed.start(device)
    task, stream = tasks[index], stream_of(run)
    torch.manual_seed(run.seed)  # the only generators that training draws from are torch's
    learner = new_learner(run, backbone_of(run, device))
    if index:
        load_state(run.state_path(index - 1), learner, run, tasks[:index], stream)
    if rank := distributed.rank():  # dropout is each process's own; what must be common is the first one's
        torch.manual_seed(run.seed + (index + 1) * 1_000_003 + rank)
    learner.to(device)
    path, images = run.state_path(index), stream.train_images(task, device)
    checkpoints = _checkpoints(run, index, device, stream, checkpoint_pause)
    ahead = batches_per_frozen_pass(device, run.training.batch_size)
    earlier = ((old, stream.train_images(old, device)) for old in tasks[:index]) if learner.needs_old_images else None
    log = learn_task(learner, task, images, run.training, on_epoch, checkpoints, ahead, compile_mode, earlier)
    if distributed.rank() == 0:
        write_text(path.with_name("losses.csv"), log.csv())
        save_state(path, learner, run, task, stream, checkpoints.made_with)
    checkpoints.delete()
    return log


def _checkpoints(run: Run, index: int, device: torch.device, stream: TaskStream, pause: float) -> Checkpoints:
    about = {"digest": run.digest, "run": run.name, "task": index, "content": stream.summary["content"]}
    about |= {"weights": weights_metadata(run.backbone_name)["fingerprint"], "processes": distributed.world_size()}
    if index:  # made anew with other bytes, it is another task
        with run.state_path(index - 1).open("rb") as file:
            about["earlier_tasks"] = hashlib.file_digest(file, "sha256").hexdigest()
    made = provenance(device.type, precision_on(device, run.training.precision))
    return Checkpoints(run.state_path(index).with_name("checkpoint.safetensors"), about, made, pause)
