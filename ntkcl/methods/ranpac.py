"""RanPAC, "Random Projections and Pre-trained Models for Continual Learning" (McDonnell et al., NeurIPS 2023)."""

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from ntkcl.devices import distributed
from ntkcl.methods.first_task import FirstTaskLearner
from ntkcl.methods.learner import Tensors
from ntkcl.peft.ridge_head import ridge_head, ridge_losses, sound_ridges
from ntkcl.settings.models import Count, Fraction, Positive
from ntkcl.tasks import Task, TaskImages

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer

CHUNK = 1024  # images whose hidden units are computed at once


class RanPAC(FirstTaskLearner):
    """The head is the ridge regression of labels on random hidden units h = ReLU(W^T feature), over all tasks.

    Its sums G = h h^T and Q = h y^T are kept for the next task. The ridge is chosen on images of the present one.
    """

    for_next_task = ("gram", "class_sums")

    class Settings(FirstTaskLearner.Settings):
        """Settings of the module, projection and ridge. The defaults are the released ones for CIFAR-100."""

        projection: Count | None = Field(10_000, description="hidden units; none: the head is fitted to the feature")
        ridges: tuple[Positive, ...] = Field(
            tuple(10.0**power for power in range(-8, 9)), min_length=1, description="candidates for the ridge"
        )
        fit_share: Fraction = Field(
            0.8, gt=0, description="share of a task's images that candidates are fitted to; the others choose one"
        )

    def __init__(self, backbone: "VisionTransformer", settings: Settings) -> None:
        super().__init__(backbone, settings)
        dim = backbone.embed_dim
        units = settings.projection or dim
        self.register_buffer("projection", torch.randn(dim, units) if settings.projection else torch.empty(dim, 0))
        self.register_buffer("gram", torch.zeros(units, units))
        self.register_buffer("class_sums", torch.zeros(units, 0))
        self.register_buffer("head", torch.zeros(0, units))

    def add_task(self, task: Task) -> None:
        """Allocate sums and head of the task's classes."""
        super().add_task(task)
        self.class_sums = F.pad(self.class_sums, (0, task.size))
        self.head = F.pad(self.head, (0, 0, 0, task.size))

    @torch.no_grad()
    def end_task(self, task: Task, images: TaskImages) -> None:
        """Add the task's images to the sums, choose the ridge, and solve for the head."""
        features, labels = self._all_features(images)
        order = distributed.broadcast(self.order(len(labels))).to(labels.device)
        features, labels = features[order], labels[order]
        for rows, classes in zip(features.split(CHUNK), labels.split(CHUNK), strict=True):
            hidden = self.hidden(rows)
            self.gram += hidden.T @ hidden
            self.class_sums += hidden.T @ F.one_hot(classes, task.classes_learned).to(hidden)
        self.head = ridge_head(self.gram, self.class_sums, self._chosen_ridge(features, labels, task))

    def _chosen_ridge(self, features: Tensor, labels: Tensor, task: Task) -> float:
        """The sound ridge with the smallest error on the held-out images; the smaller one of equals."""
        self.ridges = sorted(sound_ridges(self.gram, self.settings.ridges))
        fitted = max(1, int(self.settings.fit_share * len(labels)))
        if fitted == len(labels):  # a single image
            return self.ridges[-1]
        targets = F.one_hot(labels - task.first_class, task.size).to(features)
        self.ridge_losses = ridge_losses(self.hidden(features), targets, fitted, self.ridges)
        return self.ridges[int(self.ridge_losses.nan_to_num(float("inf")).argmin())]

    def order(self, count: int) -> Tensor:
        """Draw the order of a task's images: the first ones choose the ridge."""
        return torch.randperm(count)

    def hidden(self, features: Tensor) -> Tensor:
        """Hidden units (B, M) of features (B, d)."""
        return (features @ self.projection).relu() if self.settings.projection else features

    def scores_from_features(self, features: Tensors) -> Tensor:
        """Compute the head's values (B, classes learned)."""
        return self.hidden(features[0]) @ self.head.T

    def _all_features(self, images: TaskImages) -> tuple[Tensor, Tensor]:
        """Features (N, d) and labels (N,) of the task's images, of all processes, in one pass."""
        passes = [(self.extract_features(batch)[0].to(self.gram), labels) for batch, labels in images.eval_batches()]
        features, labels = (torch.cat(parts) for parts in zip(*passes, strict=True))
        count = int(distributed.all_reduce_sum(torch.tensor(len(labels))))
        return distributed.all_gather_rows(features, count), distributed.all_gather_rows(labels, count)


LEARNER = RanPAC
