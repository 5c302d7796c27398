"""Trajectory files of the common layout, and the comparison with them (docs/trajectories.md)."""

import json
import struct
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor, nn

from ntkcl.backbones.timm_vit import VisionTransformer
from ntkcl.data.loading.batches import ArrayImages
from ntkcl.methods.learner import Learner
from ntkcl.tasks import Batches

CPU = torch.device("cpu")
LAYER_NORM_EPS = 1e-6
# exceptions of numpy, timm and torch on other files
NOT_A_TRAJECTORY = (
    *(LookupError, ValueError, TypeError, AttributeError, AssertionError, ArithmeticError, RuntimeError),
    *(OSError, EOFError, MemoryError, BadZipFile, zlib.error, struct.error),
)


class Trajectory:
    """The arrays of a file by their keys, and the largest error of each group so far.

    Args:
        arrays: the arrays of the file; `meta` is a JSON string.

    Attributes:
        meta: sizes, shapes and settings of the recorded run.
        errors: the largest relative error of each group.
        compared: keys of the arrays that were compared.
    """

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        self.arrays, self.meta = arrays, json.loads(str(arrays["meta"]))
        self.errors: dict[str, float] = defaultdict(float)
        self.compared: set[str] = set()

    @classmethod
    def read(cls, path: Path) -> "Trajectory":
        """Read the file `path`; raises one of `NOT_A_TRAJECTORY` if it is none."""
        with np.load(path, allow_pickle=False) as file:
            return cls(dict(file))

    def __getitem__(self, key: str) -> Tensor:
        return torch.from_numpy(self.arrays[key])

    def group(self, prefix: str) -> dict[str, Tensor]:
        """The arrays whose keys begin with `prefix`, without it."""
        return {key.removeprefix(prefix): self[key] for key in self.arrays if key.startswith(prefix)}

    def vit(self) -> VisionTransformer:
        """The frozen backbone."""
        norm = partial(nn.LayerNorm, eps=self.meta.get("layer_norm_eps") or LAYER_NORM_EPS)
        vit = VisionTransformer(**self.meta["vit"], norm_layer=norm)
        vit.load_state_dict(self.group("vit/"))
        return vit

    def images(self, split: str) -> Tensor:
        """All images of the split "train" or "test", (N, C, H, W), preprocessed."""
        images = self[f"images/{split}"] / 255
        mean, std = self._normalization()
        return (images - mean) / std

    def _normalization(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each channel: none, in `meta` as numbers, or those of VPT-NSP."""
        given = self.meta.get("normalization")
        if isinstance(given, dict):
            return tuple(torch.tensor(given[name])[:, None, None] for name in ("mean", "std"))
        if given is None or given.startswith("none"):
            return torch.zeros(()), torch.ones(())
        if given == "(value / 255 - 0.5) / 0.5":
            return torch.tensor(0.5), torch.tensor(0.5)
        raise ValueError(f"unknown normalization '{given}'")

    def compare(self, group: str, ours: Tensor, key: str, theirs: Tensor | None = None) -> None:
        """Record the error of the array `key`: the largest difference, divided by its largest value.

        Args:
            group: what the error counts for.
            ours: what our code computed.
            key: the array of the file.
            theirs: the part of the array that corresponds to `ours`, or a function of it; all of it by default.

        Raises:
            ValueError: shapes differ.
        """
        self.compared.add(key)
        theirs = self[key] if theirs is None else theirs
        if ours.shape != theirs.shape:
            raise ValueError(f"{key}: shape {tuple(theirs.shape)} in the file, {tuple(ours.shape)} here")
        ours, theirs = ours.detach().double(), theirs.double()
        known = theirs.isfinite()
        if not torch.equal(known, ours.isfinite()):
            self.errors[group] = float("inf")
        elif known.any():
            ours, theirs = ours[known], theirs[known]
            size = theirs.abs().max().item() or 1.0
            self.errors[group] = max(self.errors[group], ((ours - theirs).abs().max() / size).item())
        else:
            self.errors[group] += 0.0


class GivenBatches:
    """A task's training images in the batches of a file.

    Args:
        learner: the learner whose `epoch` is the present one.
        images: (N, C, H, W), all training images.
        labels: (N,).
        epochs: returns the rows of each batch of each epoch.
        rows: the rows of the task's images.
        eval_batch_size: of `eval_batches`.
    """

    def __init__(
        self,
        learner: Learner,
        images: Tensor,
        labels: Tensor,
        epochs: Callable[[], list[list[Tensor]]],
        rows: Tensor,
        eval_batch_size: int,
    ) -> None:
        self.learner, self.images, self.labels, self.epochs = learner, images, labels, epochs
        self.of_task, self.eval_batch_size = ArrayImages(images[rows], labels[rows], CPU), eval_batch_size

    def train_batches(self, batch_size: int, skip: int = 0) -> Batches:
        """Pass over the batches of the learner's present epoch."""
        return ((self.images[rows], self.labels[rows]) for rows in self.epochs()[self.learner.epoch][skip:])

    def eval_batches(self) -> Batches:
        """Pass over the task's images once, in the order of the file."""
        return self.of_task.eval_batches(self.eval_batch_size)


def without_padding(rows: Iterable[Tensor]) -> list[Tensor]:
    """Rows of batches without the -1 that fill short ones."""
    return [row[row >= 0] for row in rows]
