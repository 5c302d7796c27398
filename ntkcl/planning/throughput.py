"""How many images a second a learner trains on and predicts, and how large its states are."""

import sys
import time
from collections.abc import Iterator

import torch
from torch import Tensor

from ntkcl.backbones import build
from ntkcl.batches import Batches
from ntkcl.config import Run
from ntkcl.files import read_json, write_json
from ntkcl.methods import learner_class
from ntkcl.planning.cost import THROUGHPUT, compute_key
from ntkcl.provenance import device_name
from ntkcl.settings import Task
from ntkcl.training.loop import learn_task

WARM_UP, ENOUGH, MOST = 2, 5.0, 50  # steps that do not count, seconds that are enough, most steps
ON_CPU = 4  # images of a step on a CPU, where larger batches take longer and are no faster


class RandomImages:
    """Images of a task that are noise, and the clock that is read while a learner goes through them.

    Real images are read and cropped by other threads meanwhile: where those are too few, a job is slower than this.
    """

    def __init__(self, run: Run, task: Task, device: torch.device) -> None:
        architecture = run.backbone.architecture
        self.shape = (architecture.in_chans, architecture.img_size, architecture.img_size)
        self.task, self.device, self.rate = task, device, 0.0

    def epoch(self, batch_size: int, done: int = 0) -> Batches:
        """Batches until the speed is known; the generator's consumer computes on each."""
        batch_size = min(batch_size, ON_CPU) if self.device.type == "cpu" else batch_size
        batch, start, counted = self._batch(batch_size), self._now(), -WARM_UP
        while counted < 1 or (counted < MOST and self._now() - start < ENOUGH):
            if counted < 0 and self._now() - start > ENOUGH:  # so slow that a start is none of the time
                counted = 0
            if counted == 0:
                start = self._now()
            yield batch
            counted += 1
        self.rate = batch_size * counted / (self._now() - start)

    def in_order(self, batch_size: int = 64) -> Batches:
        """An image of every class."""
        images, labels = self._batch(self.task.size)
        return zip(images.split(batch_size), labels.split(batch_size), strict=True)

    def _batch(self, size: int) -> tuple[Tensor, Tensor]:
        labels = self.task.first_class + torch.arange(size) % self.task.size
        return torch.rand(size, *self.shape).to(self.device), labels.to(self.device)

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def measure(run: Run, device: torch.device) -> dict[str, float]:
    """Images a second in training and in evaluation, with random weights and images."""
    learner = learner_class(run.method.learner)(build(run.backbone.architecture), run.settings).to(device)
    images = RandomImages(run, run.tasks[0], device)
    training = run.training.model_copy(update={"epochs": 1, "first_epochs": 1})
    learn_task(learner, run.tasks[0], images, training)
    train = images.rate
    with torch.no_grad():
        for batch, _ in images.epoch(64):
            learner.scores(batch)
    return {"train": train or images.rate, "evaluate": images.rate}


def measure_all(runs: list[Run], device: torch.device) -> Iterator[tuple[Run, dict[str, float]]]:
    """Measure every kind of computing that `runs` have, once each, and keep it in `runs/throughput.json`."""
    kinds = {compute_key(run): run for run in runs}
    for number, (key, run) in enumerate(kinds.items(), start=1):
        what = f"{run.variant} with {run.backbone_name}, batches of {run.training.batch_size}"
        print(f"timing {number} of {len(kinds)} kinds of runs: {what}", file=sys.stderr, flush=True)
        speed = measure(run, device)
        known = read_json(THROUGHPUT) if THROUGHPUT.exists() else {}
        names = {"backbone": run.backbone_name, "variant": run.variant, "batch_size": run.training.batch_size}
        known.setdefault(device_name(device.type), {})[key] = names | {k: round(v, 1) for k, v in speed.items()}
        write_json(THROUGHPUT, known)
        yield run, speed


def state_bytes(run: Run) -> int:
    """The size of all states of a run together, in bytes; nothing is computed."""
    size = 0
    with torch.device("meta"):
        learner = learner_class(run.method.learner)(build(run.backbone.architecture), run.settings)
        for task in run.tasks:
            learner.grow(task)
            kept = [t for name, t in learner.state_dict().items() if not name.startswith("backbone.")]
            size += sum(tensor.numel() * tensor.element_size() for tensor in kept)
    return size
