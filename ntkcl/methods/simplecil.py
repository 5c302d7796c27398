"""SimpleCIL (Zhou et al., arXiv 2303.07338): class means of frozen features as cosine prototypes, no training."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ntkcl.batches import TaskImages
from ntkcl.methods.learner import Learner, class_means
from ntkcl.peft.heads import prototype_scores
from ntkcl.peft.vit import embed, plain_feature
from ntkcl.settings import Model, Task

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer


class SimpleCIL(Learner):
    """Prototypes are means of the features as they are; they are normalized only when scores are computed."""

    class Settings(Model):
        """There is nothing to set."""

    def __init__(self, backbone: "VisionTransformer", settings: Settings) -> None:
        super().__init__(backbone, settings)
        self.register_buffer("prototypes", torch.empty(0, backbone.embed_dim))

    def grow(self, task: Task) -> None:
        """Room for the prototypes of the task's classes."""
        rows = self.prototypes.new_zeros(task.size, self.prototypes.shape[1])
        self.prototypes = torch.cat((self.prototypes, rows))

    @torch.no_grad()
    def end_task(self, task: Task, images: TaskImages) -> None:
        """The class means become the prototypes of the task's classes."""
        features = ((self._feature(batch), labels) for batch, labels in images.in_order())
        self.prototypes[task.first_class :] = class_means(features, task)

    def scores(self, images: Tensor) -> Tensor:
        """Cosines (B, classes seen) of the features and the prototypes."""
        return prototype_scores(self._feature(images), self.prototypes)

    def _feature(self, images: Tensor) -> Tensor:
        return plain_feature(self.backbone, embed(self.backbone, images))
