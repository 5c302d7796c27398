"""Replay of a trajectory by a learner, to measure the differences. That of a method is `ntkcl/verification/NAME.py`."""

import re
from typing import Any, ClassVar

import torch
from torch import Tensor

from ntkcl.methods.learner import Learner
from ntkcl.registry import METHODS
from ntkcl.settings.models import Training
from ntkcl.tasks import Task, tasks_of
from ntkcl.training.loop import LossLog, learn_task
from ntkcl.verification.trajectory import GivenBatches, Trajectory, without_padding

LIMIT = 1e-9  # of relative errors in float64


class Replay:
    """The replay of one variant of a file: the learner starts from the file's tensors and learns in the file's order.

    Args:
        trajectory: the file.
        variant: prefix of the arrays of this variant; see `variants`.
    """

    method: ClassVar[str]
    """Name of the learner."""

    names: ClassVar[dict[str, str]] = {}
    """Names of the learner's tensors for those of the file, as regular expressions of the whole name."""

    columns: ClassVar[dict[str, str]] = {}
    """Columns of our losses for those of the file, where they differ."""

    limits: ClassVar[dict[str, float]] = {}
    """Largest errors of groups whose limit is not `LIMIT`."""

    not_compared: ClassVar[tuple[str, ...]] = ()
    """Arrays that a replay does not need to compare, as regular expressions."""

    variants: ClassVar[tuple[str, ...]] = ("",)
    """Prefixes of `task0/...`, one for each variant in a file."""

    eval_batch_size = 64
    """Of passes over a task's images before and after its steps."""

    def __init__(self, trajectory: Trajectory, variant: str = "") -> None:
        self.file, self.meta, self.variant = trajectory, trajectory.meta, variant
        learner = METHODS.load(self.method)
        self.learner: Learner = learner(trajectory.vit(), learner.Settings(**self.settings())).eval()
        self.train_images, self.test_images = trajectory.images("train"), trajectory.images("test")
        self.task: Task | None = None  # the present one
        self.train_labels, self.test_labels = trajectory["labels/train"], trajectory["labels/test"]

    def settings(self) -> dict[str, Any]:
        """The learner's settings, from `meta`; by default it has none."""
        return {}

    def training(self) -> dict[str, Any]:
        """The settings of training, from `meta`."""
        return {name: self.meta[name] for name in ("lr", "epochs", "batch_size")}

    def own(self, arrays: dict[str, Tensor]) -> dict[str, Tensor]:
        """The learner's tensors for those of the file; by default `names` says their names, and shapes are the same."""
        return {self._own_name(name): tensor for name, tensor in arrays.items()}

    def tensors(self) -> dict[str, Tensor]:
        """The learner's tensors by the names that `own` uses; parts of a tensor are views of it."""
        return self.learner.own_tensors()

    def start(self, task: Task) -> None:
        """Load what is drawn or created when a task begins."""
        tensors = self.tensors()
        for name, value in self.own(self.file.group(f"task{task.index}/start/")).items():
            tensors[name].copy_(value)

    def begun(self, task: Task) -> None:
        """Compare what the beginning of a task makes."""

    def features(self) -> None:
        """Compare the features of a few test images, with the tensors of the start of the first task."""

    def draw(self, task: Task, step: int) -> tuple[Tensor, ...]:
        """What `Learner.draw` returns at a step: what the file recorded."""
        return ()

    def kept(self, task: Task) -> None:
        """Compare what the end of a task makes."""

    def scores(self, task: Task) -> None:
        """Compare the scores of all test images of the classes learned, one image at a time."""
        key = f"{self.variant}task{task.index}/scores"
        self.file.compare("scores", self.scores_of(self.known_test_images(task)), key)

    def epochs(self, task: Task) -> list[list[Tensor]]:
        """The rows of each batch of each epoch; by default all epochs have the same number of batches."""
        batches = without_padding(self.file[f"task{task.index}/batches"])
        steps = max(1, len(batches) // self.meta["epochs"])
        return [batches[first : first + steps] for first in range(0, len(batches), steps)]

    def run(self) -> None:
        """Replay all tasks in order."""
        training = Training(**({"schedule": "constant", "weight_decay": 0.0} | self.training()))
        for task in tasks_of(self.meta["sizes"]):
            self.task = task
            self._insert(task)
            log = learn_task(self.learner, task, self._images(task), training)
            self._remove()
            self._compare_losses(task, log)
            with torch.no_grad():
                self.kept(task)
                self.scores(task)

    def test_rows(self) -> Tensor:
        """The test images whose features are in the file."""
        if "features/test_rows" in self.file.arrays:
            return self.test_images[self.file["features/test_rows"]]
        if "features_of" in self.meta:
            return self.test_images[self.meta["features_of"]]
        return self.test_images[: len(next(iter(self.file.group("features/").values())))]

    def known_test_images(self, task: Task) -> Tensor:
        """The test images of the classes learned."""
        return self.test_images[self.test_labels < task.classes_learned]

    def test_batches(self, task: Task) -> list[Tensor]:
        """Rows of the test images of each task by itself, in batches, as the ports of L2P and DualPrompt evaluate."""
        rows, batches = torch.arange(len(self.test_labels)), []
        for each in tasks_of(self.meta["sizes"])[: task.index + 1]:
            own = (self.test_labels >= each.first_class) & (self.test_labels < each.classes_learned)
            batches += rows[own].split(self.meta["test_batch"])
        return batches

    def scores_of(self, images: Tensor) -> Tensor:
        """Scores of images, which pass through the learner one by one."""
        return torch.cat([self.learner.scores(image[None]) for image in images])

    def _insert(self, task: Task) -> None:
        """Let the learner take from the file what it would draw, and compare at the end of the steps."""
        learner, kind = self.learner, type(self.learner)

        def add_task(added: Task) -> None:
            kind.add_task(learner, added)
            with torch.no_grad():
                self.start(added)

        def begin_task(begun: Task, images: GivenBatches, training: Training) -> None:
            kind.begin_task(learner, begun, images, training)
            with torch.no_grad():
                self.begun(begun)
                if not begun.index and not self.variant:
                    self.features()

        def end_task(ended: Task, images: GivenBatches) -> None:
            with torch.no_grad():
                self.compare_trained(ended)
            kind.end_task(learner, ended, images)

        learner.add_task, learner.begin_task, learner.end_task = add_task, begin_task, end_task
        learner.draw = lambda count: self.draw(task, learner.step)

    def _remove(self) -> None:
        del self.learner.add_task, self.learner.begin_task, self.learner.end_task, self.learner.draw

    def _images(self, task: Task) -> GivenBatches:
        labels = self.train_labels
        rows = ((labels >= task.first_class) & (labels < task.classes_learned)).nonzero()[:, 0]
        return GivenBatches(
            self.learner, self.train_images, labels, lambda: self.epochs(task), rows, self.eval_batch_size
        )

    def _own_name(self, name: str) -> str:
        for pattern, replacement in self.names.items():
            if re.fullmatch(pattern, name):
                return re.sub(pattern, replacement, name)
        raise ValueError(f"the learner has no tensor for '{name}'")

    def compare_trained(self, task: Task) -> None:
        """Compare all trained tensors."""
        prefix, tensors = f"{self.variant}task{task.index}/trained/", self.tensors()
        for name in self.file.group(prefix):
            for own_name, value in self.own({name: self.file[prefix + name]}).items():
                self.file.compare("trained", tensors[own_name], prefix + name, value)

    def _compare_losses(self, task: Task, log: LossLog) -> None:
        key, names = f"{self.variant}task{task.index}/losses", self.meta["loss_columns"]
        theirs = self.file[key]
        if len(theirs) != len(log.rows):
            raise ValueError(f"{key}: {len(theirs)} steps in the file, {len(log.rows)} here")
        ours = dict(zip(log.columns, zip(*log.rows, strict=True), strict=False))
        for name, column in zip(names, theirs.T, strict=True):
            if len(column):
                self.file.compare(f"loss {name}", torch.tensor(ours[self.columns.get(name, name)]), key, column)
        self.file.compared.add(key)
