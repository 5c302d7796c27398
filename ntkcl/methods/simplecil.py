"""SimpleCIL (Zhou et al., arXiv 2303.07338): class means of frozen features as cosine prototypes, no training."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ntkcl.backbones.vit_blocks import first_block, plain_feature
from ntkcl.methods.learner import Learner, Tensors, class_means
from ntkcl.peft.heads import prototype_scores
from ntkcl.settings.models import Model
from ntkcl.tasks import Task, TaskImages

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer


class SimpleCIL(Learner):
    """Prototypes are class means of unnormalized features; normalization is part of the scores."""

    class Settings(Model):
        """SimpleCIL has no settings."""

    def __init__(self, backbone: "VisionTransformer", settings: Settings) -> None:
        super().__init__(backbone, settings)
        self.register_buffer("prototypes", torch.empty(0, backbone.embed_dim))

    def add_task(self, task: Task) -> None:
        """Allocate the prototypes of the task's classes."""
        super().add_task(task)
        rows = self.prototypes.new_zeros(task.size, self.prototypes.shape[1])
        self.prototypes = torch.cat((self.prototypes, rows))

    @torch.no_grad()
    def backbone_forward(self, images: Tensor) -> Tensors:
        """Compute the plain feature (B, d)."""
        return (plain_feature(self.backbone, first_block(self.backbone, images)),)

    @torch.no_grad()
    def end_task(self, task: Task, images: TaskImages) -> None:
        """Compute the prototypes of the task's classes: their class means."""
        features = ((self.extract_features(batch)[0], labels) for batch, labels in images.eval_batches())
        self.prototypes[task.first_class :] = class_means(features, task)

    def scores_from_features(self, features: Tensors) -> Tensor:
        """Compute the cosines (B, classes learned) of features and prototypes."""
        return prototype_scores(*features, self.prototypes)


LEARNER = SimpleCIL
