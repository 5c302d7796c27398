"""APER, "Revisiting Class-Incremental Learning with Pre-Trained Models" (Zhou et al., IJCV 2024, arXiv 2303.07338)."""

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from ntkcl.backbones.vit_blocks import first_block, plain_feature
from ntkcl.methods.first_task import FirstTaskLearner
from ntkcl.methods.learner import Tensors, class_means
from ntkcl.peft.heads import prototype_scores
from ntkcl.tasks import Task, TaskImages

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer


class APER(FirstTaskLearner):
    """Adapt and merge: class means of the plain and of the adapted feature together are prototypes."""

    class Settings(FirstTaskLearner.Settings):
        """Settings of the module. The defaults are those of LAMDA-PILOT for CIFAR-100."""

    def __init__(self, backbone: "VisionTransformer", settings: Settings) -> None:
        super().__init__(backbone, settings)
        self.register_buffer("prototypes", torch.empty(0, 2 * backbone.embed_dim))

    def add_task(self, task: Task) -> None:
        """Allocate the prototypes of the task's classes."""
        super().add_task(task)
        self.prototypes = F.pad(self.prototypes, (0, 0, 0, task.size))

    @torch.no_grad()
    def backbone_forward(self, images: Tensor) -> Tensors:
        """Compute what the module does not change, and the plain feature (B, d)."""
        if self.settings.module == "adapter":
            first = first_block(self.backbone, images)
            return (*first, plain_feature(self.backbone, first))
        plain = plain_feature(self.backbone, first_block(self.backbone, images))
        return (*super().backbone_forward(images), plain)

    def features(self, frozen: Tensors) -> Tensors:
        """Compute the adapted and the plain feature, (B, d) each."""
        return (*super().features(frozen)[:1], frozen[-1])

    def training_features(self, frozen: Tensors, drawn: Tensors) -> Tensors:
        """Compute the adapted feature (B, d)."""
        return self.features(frozen)[:1]

    @torch.no_grad()
    def end_task(self, task: Task, images: TaskImages) -> None:
        """Compute the prototypes of the task's classes: class means of both features."""
        features = ((self._both(self.extract_features(batch)), labels) for batch, labels in images.eval_batches())
        self.prototypes[task.first_class :] = class_means(features, task)

    def scores_from_features(self, features: Tensors) -> Tensor:
        """Compute the cosines (B, classes learned) of both features, as one vector, and prototypes."""
        return prototype_scores(self._both(features), self.prototypes)

    @staticmethod
    def _both(features: Tensors) -> Tensor:
        """The plain and the adapted feature as one vector (B, 2 d)."""
        adapted, plain = features
        return torch.cat((plain, adapted), 1)


LEARNER = APER
