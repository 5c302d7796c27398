"""Fine-tuning of an adapter and a linear head: a lower bound task after task, an upper bound on all classes at once."""

from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from ntkcl.backbones.vit_blocks import FirstBlock, first_block
from ntkcl.methods.learner import Learner, Tensors
from ntkcl.peft.adapters import Adapters, AdapterSettings
from ntkcl.peft.heads import GrowingLinear
from ntkcl.tasks import Task

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer


class AdapterFineTuning(Learner):
    """Adapter and head are trained on one task after another, without anything that prevents forgetting."""

    class Settings(AdapterSettings):
        """Settings of the adapter and its loss. The defaults are EASE's adapter (Zhou et al., CVPR 2024)."""

        classes: Literal["learned", "task"] = Field(
            "learned", description="classes of the cross entropy: all learned so far, or the current task's"
        )

    def __init__(self, backbone: "VisionTransformer", settings: Settings) -> None:
        super().__init__(backbone, settings)
        self.adapters = Adapters(backbone, settings.adapter_width, settings.adapter_scale, settings.adapter_dropout)
        self.head = GrowingLinear(backbone.embed_dim)

    def add_task(self, task: Task) -> None:
        """Add rows of the head for the task's classes."""
        super().add_task(task)
        self.head.grow(task.size)
        if self.settings.classes == "learned":
            self.first_class = 0

    @torch.no_grad()
    def backbone_forward(self, images: Tensor) -> Tensors:
        """Compute the output of the first block."""
        return first_block(self.backbone, images)

    def features(self, frozen: Tensors) -> Tensors:
        """Compute the adapted feature (B, d)."""
        return (self.adapters.feature(self.backbone, FirstBlock(*frozen)),)

    def loss(self, features: Tensors, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the cross entropy of the head's logits."""
        loss = F.cross_entropy(self.training_logits(features), labels - self.first_class)
        return loss, {"cross_entropy": loss}

    def scores_from_features(self, features: Tensors) -> Tensor:
        """Compute the logits (B, classes learned)."""
        return self.head(*features)


LEARNER = AdapterFineTuning
