"""What stands beside ours in `benchmarks/against.py`: an implementation, its turns with the clock, and their record."""

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from ntkcl.errors import UserError
from ntkcl.tasks import Task


@dataclass(frozen=True)
class Setting:
    """What is measured.

    Args:
        batch: images of a step.
        tasks: of the stream.
        learned: how many of them have been learned; the next is trained.
        lr: learning rate.
    """

    device: torch.device
    batch: int
    tasks: list[Task]
    learned: int
    lr: float


@dataclass
class Turn:
    """Images and labels for one side, and the clock: it runs from the first batch on until one more is asked for."""

    batches: list[tuple[Tensor, Tensor]]
    seconds: float | None = None  # of a step
    images: int = 0

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        start = self._now()
        for images, labels in self.batches:
            self.images += len(images)
            yield images, labels
        self.seconds = (self._now() - start) / len(self)

    def _now(self) -> float:
        if (device := self.batches[0][0].device).type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()


class Implementation(Protocol):
    """The other side. Its model lies on the device all the time, and has learned `setting.learned` tasks.

    It may have `outputs_of_ours(learner, images)`, if ours is to give something else than scores for comparing.
    """

    def outputs(self, images: Tensor) -> Tensor:
        """What the model makes of images, to be compared with ours: scores (B, classes learned)."""

    def predict(self, turn: Turn) -> None:
        """Predict the classes of each batch, and take the next one then. Called before `train`."""

    def train(self, turn: Turn) -> None:
        """A step of training on each batch, and take the next one then. Further turns go on with the same task."""


@dataclass
class Record:
    """The rounds of a part: "evaluate" or "train".

    Args:
        part: its name.
        rounds: how many shall count.
    """

    part: str
    rounds: int
    theirs: list[float] = field(default_factory=list)
    ours: list[float] = field(default_factory=list)
    images: int = 0

    def add(self, theirs: Turn, ours: Turn, is_warm_up: bool) -> None:
        """Take in a round, and print it."""
        if theirs.seconds is None or theirs.images != ours.images:
            raise UserError(f"{self.part}: theirs saw {theirs.images} images to the end, ours {ours.images}")
        ratio = theirs.seconds / ours.seconds
        name = "warm-up" if is_warm_up else f"round {len(self.ours) + 1}"
        times = f"theirs {theirs.seconds:.4f} s a step, ours {ours.seconds:.4f} s, ratio {ratio:.3f}"
        print(f"{self.part} {name}: {times}", flush=True)
        if not is_warm_up:
            self.theirs.append(theirs.seconds)
            self.ours.append(ours.seconds)
            self.images += ours.images

    def summary(self, batch: int) -> dict[str, float]:
        """Medians in images a second, and how many times as fast as theirs ours is, pair by pair."""
        ratios = [theirs / ours for theirs, ours in zip(self.theirs, self.ours, strict=True)]
        rates = {name: batch / statistics.median(getattr(self, name)) for name in ("theirs", "ours")}
        return rates | {"ratio": statistics.median(ratios), "least": min(ratios), "most": max(ratios)}
