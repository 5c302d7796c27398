"""Train one task of a run, from the state of the task before."""

import torch
from rich.console import Console

from ntkcl.backbones.files import weights_metadata
from ntkcl.data.loading.task_stream import TaskStream
from ntkcl.devices import distributed
from ntkcl.devices.compute import batches_per_frozen_pass, precision_on
from ntkcl.errors import UserError
from ntkcl.methods.learner import Learner
from ntkcl.progress import Report, shown
from ntkcl.runs import Run
from ntkcl.storage.files import sha256_of, write_text
from ntkcl.storage.provenance import code_digest, provenance
from ntkcl.storage.tensors import checked_metadata
from ntkcl.tasks import Batches, TaskImages
from ntkcl.training.checkpoint import Checkpoints
from ntkcl.training.finished import FinishedTask
from ntkcl.training.fixed_images import with_fixed_images
from ntkcl.training.loop import LossLog, OnEpoch, learn_task
from ntkcl.training.parts import backbone_of, new_learner, stream_of
from ntkcl.training.progress_points import ProgressPoints
from ntkcl.training.state import FORMAT, VERSION, load_state, next_task_path, save_state

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

    A state's second file (`next_task_path`) is deleted once the next task is learned. If it is needed again, earlier
    tasks are learned again first. If the task was learned before by the same code, and its state deleted since, nothing
    is trained: the state is restored (`ntkcl.training.finished`).

    The random state continues from task to task, so that tasks in separate processes give the files of one process.
    Training resumes from the `checkpoint.safetensors` of a process that was stopped or killed: on a CPU, the files are
    the same as without the stop.

    Args:
        run: the run.
        index: index of the task, from 0.
        device: device to train on.
        on_epoch: called after each epoch.
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
    path, checkpoints = run.state_path(index), _checkpoints(run, index, device, stream, checkpoint_pause)
    environment = {name: checkpoints.made_with[0].get(name) for name in ("versions", "lock")}
    finished = FinishedTask(path.parent, checkpoints.metadata | {"code": code_digest(), "environment": environment})
    if any(distributed.all_gather_object(distributed.rank() == 0 and finished.restore(path))):
        checkpoints.delete()  # this and the next, if the process was killed before it could
        _delete_second_file_before(run, index)
        return LossLog.read(path.with_name("losses.csv"))
    torch.manual_seed(run.seed)  # training uses no other generators than torch's
    learner = new_learner(run, backbone_of(run, device))
    if index:
        if _lacks_second_file(run, index - 1, learner):  # deleted when task `index` had been learned
            train_task(run, index - 1, device, on_epoch, checkpoint_pause, compile_mode)
            return train_task(run, index, device, on_epoch, checkpoint_pause, compile_mode)  # from that state
        load_state(run.state_path(index - 1), learner, run, tasks[:index], stream, to_learn=True)
    if rank := distributed.rank():  # dropout differs between processes; all else comes from the first one
        torch.manual_seed(run.seed + (index + 1) * 1_000_003 + rank)
    learner.to(device)
    images = with_fixed_images(learner, stream.train_images(task, device), device)
    ahead = batches_per_frozen_pass(device, run.training.batch_size)
    earlier = ((old, stream.train_images(old, device)) for old in tasks[:index]) if learner.needs_old_images else None
    total = learner.epochs_of(task, run.training) * len(images.labels)
    if not checkpoints.path.exists() and not rank:
        path.with_name("progress.csv").unlink(missing_ok=True)  # of a training before this one
    points = ProgressPoints(path.with_name("progress.csv"), _images_per_step(images, run))
    with shown(f"training task {index}", total, "images", Console(stderr=True, quiet=rank > 0)) as report:
        images = _ReportedImages(images, len(images.labels), report, on_epoch)
        log = learn_task(
            learner,
            task,
            images,
            run.training,
            on_epoch=images.on_epoch,
            checkpoints=checkpoints,
            batches_per_frozen_pass=ahead,
            compile_mode=compile_mode,
            earlier=earlier,
            on_losses=None if rank else points.add,
        )
    if distributed.rank() == 0:
        losses = path.with_name("losses.csv")
        write_text(losses, log.csv())
        save_state(path, learner, run, task, stream, checkpoints.made_with)
        finished.keep(*(each for each in (losses, path, next_task_path(path)) if each.exists()))
        _delete_second_file_before(run, index)
    checkpoints.delete()
    distributed.wait_for_all()
    return log


def _delete_second_file_before(run: Run, index: int) -> None:
    """Delete what only task `index` reads of the task before, under both names."""
    if index and distributed.rank() == 0:
        used = next_task_path(run.state_path(index - 1))
        used.unlink(missing_ok=True)
        FinishedTask(used.parent, {}).forget(used)


def _images_per_step(images: TaskImages, run: Run) -> float:
    count = len(images.labels)
    return count / -(-count // run.training.batch_size)


def _lacks_second_file(run: Run, index: int, learner: Learner) -> bool:
    """Return whether the state of task `index` is there without what the next task needs beside it."""
    path = run.state_path(index)
    if not learner.for_next_task or not path.exists() or next_task_path(path).exists():
        return False
    _, names = checked_metadata(path, FORMAT, VERSION, None, f"run `snakemake --cores all {path}`")
    return not any(learner.is_for_next_task(name.removeprefix("learner/")) for name in names)


class _ReportedImages:
    """The training images of a task; reports the batches that are taken from them."""

    def __init__(self, images: TaskImages, count: int, report: Report, on_epoch: OnEpoch) -> None:
        self.images, self.count, self.report, self.after_epoch = images, count, report, on_epoch
        self.trained = 0  # images of the finished epochs

    def on_epoch(self, epoch: int, epochs: int, loss: float) -> None:
        """Count the images of an epoch."""
        self.trained = epoch * self.count
        self.after_epoch(epoch, epochs, loss)

    def train_batches(self, batch_size: int, skip: int = 0) -> Batches:
        """As for all `TaskImages`."""
        return self._reported(self.images.train_batches(batch_size, skip), self.trained + skip * batch_size)

    def eval_batches(self) -> Batches:
        """As for all `TaskImages`."""
        return self._reported(self.images.eval_batches(), 0, "pass without training", self.count)

    def _reported(self, batches: Batches, done: int, note: str = "", total: int | None = None) -> Batches:
        for images, labels in batches:
            yield images, labels
            done += len(labels)
            self.report(done, note, total)


def _checkpoints(run: Run, index: int, device: torch.device, stream: TaskStream, pause: float) -> Checkpoints:
    about = {"digest": run.digest, "run": run.name, "task": index, "content": stream.summary["content"]}
    about |= {"weights": weights_metadata(run.backbone_name)["fingerprint"], "processes": distributed.world_size()}
    if index and run.state_path(index - 1).exists():  # trained again with other bytes, it is another task
        about["earlier_tasks"] = sha256_of(run.state_path(index - 1))
    made = provenance(device.type, precision_on(device, run.training.precision))
    return Checkpoints(run.state_path(index).with_name("checkpoint.safetensors"), about, made, pause)
