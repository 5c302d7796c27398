"""Images a second, operations and memory of a learner, on random images, in the loop that real runs have."""

import statistics
import time
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ntkcl.backbones.files import build_vit
from ntkcl.backbones.vit_blocks import in_precision
from ntkcl.bench.memory import forget_peak, kept_for_backward, peak
from ntkcl.devices.compute import batches_per_frozen_pass, precision_on
from ntkcl.methods.learner import Learner
from ntkcl.registry import METHODS
from ntkcl.runs import Run
from ntkcl.tasks import Batches, Task
from ntkcl.training.loop import learn_task

WARM_UP, FEWEST, MOST = 2, 3, 30  # windows that do not count, and how many do
EVALUATED = 64  # images of a batch in evaluation
STEPS_ON_GPU = 4  # of a window, at whose ends the host waits for the GPU


@dataclass(frozen=True)
class Speed:
    """What was measured.

    Args:
        rates: images a second, of each window.
        operations: floating-point operations of an image, in matrix products, attention and convolutions.
        batch: images of a batch.
        memory: the most that was in use, in bytes: of the GPU, or of this process.
        kept: bytes that a step's forward passes keep for its backward one, by computing with shapes alone.
    """

    rates: list[float]
    operations: float
    batch: int
    memory: int
    kept: int = 0

    @property
    def rate(self) -> float:
        """The median rate."""
        return statistics.median(self.rates)


@dataclass
class TimedImages:
    """A task's images that are noise, and the clock that is read while a learner goes through them.

    Real images are read and cropped meanwhile: where that takes longer than computing, a job is slower.

    Args:
        task: the task that the images are of.
        shape: (C, H, W).
        together: batches that the learner takes at once.
        seconds: that are enough.
    """

    task: Task
    shape: tuple[int, int, int]
    device: torch.device
    together: int = 1
    seconds: float = 5.0
    rates: list[float] = field(default_factory=list)

    def train_batches(self, batch_size: int, skip: int = 0) -> Batches:
        """Batches until the speed is known; who takes them computes on each."""
        batch, begin = self.batch(batch_size), time.perf_counter()
        steps = self.together * (STEPS_ON_GPU if self.device.type == "cuda" else 1)
        self.rates.clear()
        while len(self.rates) < WARM_UP + FEWEST or (
            len(self.rates) < WARM_UP + MOST and time.perf_counter() - begin < self.seconds
        ):
            start = self._now()
            for _ in range(steps):
                yield batch
            self.rates.append(batch_size * steps / (self._now() - start))
        del self.rates[:WARM_UP]

    def eval_batches(self, batch_size: int = 64) -> Batches:
        """An image of every class."""
        images, labels = self.batch(self.task.size)
        return zip(images.split(batch_size), labels.split(batch_size), strict=True)

    def batch(self, size: int) -> tuple[Tensor, Tensor]:
        """Images (size, C, H, W) and labels."""
        labels = self.task.first_class + torch.arange(size) % self.task.size
        return torch.rand(size, *self.shape).to(self.device), labels.to(self.device)

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def training_speed(run: Run, device: torch.device, seconds: float, compile_mode: str | None = None) -> Speed | None:
    """How fast `run` trains in the middle of its tasks, with random weights; None where it trains nothing.

    Args:
        seconds: that are enough.
        compile_mode: as for `learn_task`.
    """
    learner, images = _in_the_middle(run, device, seconds)
    if not learner.trained_parameters():
        return None
    training = run.training.model_copy(update={"epochs": 1, "first_epochs": 1})
    images.together = batches_per_frozen_pass(device, training.batch_size)
    forget_peak(device)
    learn_task(
        learner, images.task, images, training, batches_per_frozen_pass=images.together, compile_mode=compile_mode
    )
    memory, (pictures, labels) = peak(device), images.batch(training.batch_size)
    operations = _operations(learner.train(), pictures, labels, True)
    return Speed(images.rates, operations, training.batch_size, memory, kept_for_backward(learner, pictures, labels))


@torch.no_grad()
def evaluation_speed(run: Run, device: torch.device, seconds: float, size: int = EVALUATED) -> Speed:
    """How fast the learner of `run` predicts.

    Args:
        seconds: that are enough.
        size: images of a batch.
    """
    learner, images = _in_the_middle(run, device, seconds)
    learner.add_task(images.task)
    learner.eval()
    forget_peak(device)
    for batch, _ in images.train_batches(size):
        learner.scores(batch)
    return Speed(images.rates, _operations(learner, *images.batch(size), False), size, peak(device))


def matmul_ceiling(device: torch.device, precision: str, seconds: float = 1.0) -> float:
    """The most operations a second that a square matrix product reaches in this process; about `seconds` for each."""
    best, task, is_gpu = 0.0, Task(index=0, first_class=0, size=1), device.type == "cuda"
    for side in (2048, 4096, 8192) if is_gpu else (256, 512, 1024, 2048):
        left, right = (torch.randn(side, side, device=device, dtype=getattr(torch, precision)) for _ in range(2))
        clock = TimedImages(task, (1, 1, 1), device, 8 if is_gpu else 1, seconds)
        for _ in clock.train_batches(1):
            left @ right
        best = max(best, statistics.median(clock.rates) * 2 * side**3)
        if 8 / statistics.median(clock.rates) > seconds:  # the next would take too long
            break
    return best


def _in_the_middle(run: Run, device: torch.device, seconds: float) -> tuple[Learner, TimedImages]:
    """A learner that has met half of the tasks, with random numbers for what it would have learned; the next task's."""
    backbone = in_precision(build_vit(run.backbone.architecture), precision_on(device, run.training.precision)).to(
        device
    )
    learner, middle = METHODS.load(run.method.learner)(backbone, run.settings).to(device), len(run.tasks) // 2
    for task in run.tasks[:middle]:
        learner.add_task(task)
    for name, buffer in learner.named_buffers():
        if not name.startswith("backbone.") and buffer.is_floating_point():
            torch.nn.init.normal_(buffer)
    shape = (run.backbone.architecture.in_chans, *[run.backbone.architecture.img_size] * 2)
    return learner, TimedImages(run.tasks[middle], shape, device, seconds=seconds)


def _operations(learner: Learner, images: Tensor, labels: Tensor, is_training: bool) -> float:
    """Operations of an image in a training step or in predicting, as torch counts them while they are done."""
    with FlopCounterMode(display=False) as counter:
        features = learner.extract_features(images)
        if is_training:
            learner.loss(features, labels)[0].backward()
        else:
            learner.scores_from_features(features)
    learner.zero_grad()
    return counter.get_total_flops() / len(images)
