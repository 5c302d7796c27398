"""Images per second, operations and memory of a learner, with random images and the training loop of real runs."""

import statistics
import time
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ntkcl.backbones.files import build_vit
from ntkcl.backbones.vit_blocks import in_precision
from ntkcl.bench.memory import forget_peak, kept_for_backward, peak, step_features
from ntkcl.devices.compute import batches_per_frozen_pass, precision_on
from ntkcl.methods.learner import Learner
from ntkcl.registry import METHODS
from ntkcl.runs import Run
from ntkcl.tasks import Batches, Task
from ntkcl.training.loop import learn_task

WARM_UP_WINDOWS, MIN_WINDOWS, MAX_WINDOWS = 2, 3, 30  # of timing; the warm-up is not used
EVALUATION_BATCH = 64  # images
GPU_STEPS_PER_WINDOW = 4  # the host waits for the GPU at the end of a window


@dataclass(frozen=True)
class Speed:
    """Result of a measurement.

    Args:
        rates: images per second of each window.
        operations: floating-point operations per image, in matrix products, attention and convolutions.
        batch: number of images of a batch.
        memory: peak memory in bytes, of the GPU or of this process.
        kept: bytes that a step's forward passes keep for the backward pass, computed from shapes.
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
    """Random images of a task, with a clock that measures how fast a learner passes over them.

    In real runs, images are read and cropped at the same time. If this takes longer than computing, a job is slower.

    Args:
        task: the task of the images.
        shape: (C, H, W).
        device: device of the images.
        together: number of batches that the learner processes together.
        seconds: measuring time.
        rates: images per second of each window, in order.
        learner: if given, only its training is timed; passes before and after get one batch.
    """

    task: Task
    shape: tuple[int, int, int]
    device: torch.device
    together: int = 1
    seconds: float = 5.0
    rates: list[float] = field(default_factory=list)
    learner: Learner | None = None

    def train_batches(self, batch_size: int, skip: int = 0) -> Batches:
        """Yield batches until the speed is measured, timing the computation on each."""
        batch, begin = self.batch(batch_size), time.perf_counter()
        if self.learner and not self.learner.training:
            yield batch
            return
        steps = self.together * (GPU_STEPS_PER_WINDOW if self.device.type == "cuda" else 1)
        self.rates.clear()
        while len(self.rates) < WARM_UP_WINDOWS + MIN_WINDOWS or (
            len(self.rates) < WARM_UP_WINDOWS + MAX_WINDOWS and time.perf_counter() - begin < self.seconds
        ):
            start = self._now()
            for _ in range(steps):
                yield batch
            self.rates.append(batch_size * steps / (self._now() - start))
        del self.rates[:WARM_UP_WINDOWS]

    def eval_batches(self, batch_size: int = 64) -> Batches:
        """Yield one image of every class."""
        images, labels = self.batch(self.task.size)
        return zip(images.split(batch_size), labels.split(batch_size), strict=True)

    def batch(self, size: int) -> tuple[Tensor, Tensor]:
        """Return images (size, C, H, W) and labels."""
        labels = self.task.first_class + torch.arange(size) % self.task.size
        return torch.rand(size, *self.shape).to(self.device), labels.to(self.device)

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def training_speed(run: Run, device: torch.device, seconds: float, compile_mode: str | None = None) -> Speed | None:
    """Measure training of `run` with random weights; None if it trains nothing.

    The task is the one in the middle, or the first one if later ones train nothing.

    Args:
        run: the run.
        device: device to compute on.
        seconds: measuring time.
        compile_mode: as for `learn_task`.
    """
    learner, images = _in_the_middle(run, device, seconds)
    if learner.trains_first_task_only:
        learner, images = _before_task(run, 0, device, seconds)
    if not learner.trained_parameters():
        return None
    images.learner, training = learner, run.training.model_copy(update={"epochs": 1, "first_epochs": 1})
    images.together = batches_per_frozen_pass(device, training.batch_size)
    forget_peak(device)
    learn_task(
        learner, images.task, images, training, batches_per_frozen_pass=images.together, compile_mode=compile_mode
    )
    memory, (pictures, labels) = peak(device), images.batch(training.batch_size)
    operations = operations_per_image(learner.train(), pictures, labels, True)
    return Speed(images.rates, operations, training.batch_size, memory, kept_for_backward(learner, pictures, labels))


@torch.no_grad()
def evaluation_speed(run: Run, device: torch.device, seconds: float, size: int = EVALUATION_BATCH) -> Speed:
    """Measure prediction with the learner of `run`.

    Args:
        run: the run.
        device: device to compute on.
        seconds: measuring time.
        size: number of images of a batch.
    """
    learner, images = _in_the_middle(run, device, seconds)
    learner.add_task(images.task)
    learner.eval()
    forget_peak(device)
    for batch, _ in images.train_batches(size):
        learner.scores(batch)
    return Speed(images.rates, operations_per_image(learner, *images.batch(size), False), size, peak(device))


def matmul_ceiling(device: torch.device, precision: str, seconds: float = 1.0) -> float:
    """Measure the highest speed of square matrix products, in operations per second; about `seconds` for each size."""
    best, task, is_gpu = 0.0, Task(index=0, first_class=0, size=1), device.type == "cuda"
    for side in (2048, 4096, 8192) if is_gpu else (256, 512, 1024, 2048):
        left, right = (torch.randn(side, side, device=device, dtype=getattr(torch, precision)) for _ in range(2))
        clock = TimedImages(task, (1, 1, 1), device, 8 if is_gpu else 1, seconds)
        for _ in clock.train_batches(1):
            left @ right
        best = max(best, statistics.median(clock.rates) * 2 * side**3)
        if 8 / statistics.median(clock.rates) > seconds:  # the next size would take too long
            break
    return best


def _in_the_middle(run: Run, device: torch.device, seconds: float) -> tuple[Learner, TimedImages]:
    """Return a learner after half of the tasks, with random buffers, and images of the next task."""
    return _before_task(run, len(run.tasks) // 2, device, seconds)


def _before_task(run: Run, index: int, device: torch.device, seconds: float) -> tuple[Learner, TimedImages]:
    """Return a learner before task `index`, with random buffers, and images of that task."""
    backbone = in_precision(build_vit(run.backbone.architecture), precision_on(device, run.training.precision)).to(
        device
    )
    learner = METHODS.load(run.method.learner)(backbone, run.settings).to(device)
    for task in run.tasks[:index]:
        learner.add_task(task)
    randomize_buffers(learner)
    shape = (run.backbone.architecture.in_chans, *[run.backbone.architecture.img_size] * 2)
    return learner, TimedImages(run.tasks[index], shape, device, seconds=seconds)


def randomize_buffers(learner: Learner, std: float = 1.0) -> None:
    """Fill what earlier tasks left for prediction, such as prototypes, with random numbers from N(0, std^2)."""
    for name, buffer in learner.named_buffers():
        is_own = not name.startswith("backbone.") and not learner.is_for_next_task(name)
        if is_own and buffer.is_floating_point():
            torch.nn.init.normal_(buffer, std=std)


def operations_per_image(learner: Learner, images: Tensor, labels: Tensor, is_training: bool) -> float:
    """Count the operations per image of a training step or of prediction, by torch's counter."""
    trained = learner.trained_parameters()
    for parameter in trained:  # the counter fails at views of parameters if gradients are off by `torch.no_grad` alone
        parameter.requires_grad_(is_training)
    with FlopCounterMode(display=False) as counter:
        if is_training:
            learner.loss(step_features(learner, images), labels)[0].backward()
        else:
            learner.scores(images)
    for parameter in trained:
        parameter.requires_grad_(True)
    learner.zero_grad()
    return counter.get_total_flops() / len(images)
