"""Training of one task that is interrupted at a chosen batch, and the small learners for it."""

import copy
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from PIL import Image
from timm.models.vision_transformer import VisionTransformer

from ntkcl.data.loading.batches import TransformedImages
from ntkcl.methods.learner import Learner
from ntkcl.registry import METHODS
from ntkcl.settings.models import Preprocessing, Training
from ntkcl.tasks import Task, tasks_of
from ntkcl.training.checkpoint import Checkpoints, Stopped
from ntkcl.training.loop import learn_task
from tests.helpers.learners import CPU, DEPTH, SMALLER

METADATA = {"digest": "d", "weights": "w"}
FIRST, SECOND = tasks_of([2, 3])
NEVER = 1e9  # seconds between two checkpoints
OPTIMIZERS = ("sgd", "adam", "adamw")


class Killed(BaseException):
    """Stands for the end of the process: nothing gets a chance to save."""


def kill(*arguments: object) -> None:
    """End the process, as far as training can tell."""
    raise Killed


class InterruptedImages:
    """Training images that call `event` when batch number `at` is taken."""

    def __init__(self, images: TransformedImages, at: int, event: Callable[[], None]) -> None:
        self.images, self.left, self.event = images, at, event

    def train_batches(self, batch_size: int, skip: int = 0):
        return map(self._count, self.images.train_batches(batch_size, skip))

    def eval_batches(self):
        return self.images.eval_batches()

    def _count(self, batch):
        if self.left == 0:
            self.event()
        self.left -= 1
        return batch


def noise_images(task: Task) -> TransformedImages:
    """Four images a class, cropped and mirrored at random."""
    labels = torch.arange(task.first_class, task.classes_learned).repeat(4)
    pixels = torch.randint(0, 256, (len(labels), 12, 12), generator=torch.Generator().manual_seed(task.index))
    pictures = [Image.fromarray(array) for array in pixels.to(torch.uint8).numpy()]
    return TransformedImages(pictures.__getitem__, labels, Preprocessing(), 8, 1, CPU)


def new_learner(method: str, optimizer: str = "sgd", dropout: bool = True) -> tuple[Learner, Training]:
    """A learner with its default settings (without dropout, if so chosen), and the way to train it."""
    kind = METHODS.load(method)
    rates = {name: 0.0 for name, field in kind.Settings.model_fields.items() if name.endswith("_dropout")}
    settings = kind.Settings(**SMALLER.get(method, {}) | ({} if dropout else rates))
    torch.manual_seed(3)
    shape = dict(img_size=8, patch_size=4, in_chans=1, embed_dim=16, depth=DEPTH, num_heads=2, num_classes=0)
    return kind(VisionTransformer(**shape), settings), Training(lr=0.05, epochs=3, batch_size=5, optimizer=optimizer)


def learner_after_first(method: str, optimizer: str = "sgd") -> tuple[Learner, Training]:
    """A learner that has learned the first task, and the way to train the second one."""
    learner, training, state = _learned_first(method, optimizer)
    torch.set_rng_state(state)
    return copy.deepcopy(learner), training


@cache
def _learned_first(method: str, optimizer: str) -> tuple[Learner, Training, torch.Tensor]:
    learner, training = new_learner(method, optimizer)
    learn_task(learner, FIRST, noise_images(FIRST), training)
    return learner, training, torch.get_rng_state()


def learn_second(
    path: Path,
    method: str,
    interrupt_at: int | None = None,
    event: Callable[[], None] = kill,
    interval: float = NEVER,
    batches: int = 1,
    optimizer: str = "sgd",
) -> tuple[str, dict[str, bytes], bytes] | None:
    """Learn the second task, from the beginning or from the checkpoint `path`.

    Args:
        interrupt_at: number of the batch at which `event` happens; None: nothing happens.
        interval: seconds between two checkpoints.
        batches: number that go through the frozen part of the learner together.

    Returns:
        The log, the state and the random state in bytes, or None where training was interrupted.
    """
    learner, training = learner_after_first(method, optimizer)
    checkpoints = Checkpoints(path, METADATA, {"device": "test"}, interval)
    images = noise_images(SECOND)
    images = images if interrupt_at is None else InterruptedImages(images, interrupt_at, event)
    try:
        log = learn_task(learner, SECOND, images, training, checkpoints=checkpoints, batches_per_frozen_pass=batches)
    except (Killed, Stopped):
        return None
    checkpoints.delete()
    state = {name: tensor.numpy().tobytes() for name, tensor in learner.state().items()}
    return log.csv(), state, torch.get_rng_state().numpy().tobytes()
