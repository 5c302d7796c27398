"""Fine-tuning an adapter and a linear head: task after task the lower bound, on all classes at once the upper one."""

from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from ntkcl.backbones.vit_blocks import FirstBlock, first_block
from ntkcl.methods.learner import Learner, Tensors
from ntkcl.peft.adapters import Adapters
from ntkcl.peft.heads import GrowingLinear
from ntkcl.settings.models import Count, Fraction, Model, NotNegative
from ntkcl.tasks import Task

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer


class AdapterFineTuning(Learner):
    """Adapter and head go on from task to task with nothing that prevents forgetting."""

    class Settings(Model):
        """The adapter is EASE's (Zhou et al., CVPR 2024)."""

        adapter_width: Count = 64
        adapter_scale: NotNegative = 0.1
        adapter_dropout: Fraction = 0.1
        classes: Literal["seen", "task"] = Field(
            "seen", description="cross entropy over all classes seen, or over the present task's alone"
        )

    def __init__(self, backbone: "VisionTransformer", settings: Settings) -> None:
        super().__init__(backbone, settings)
        self.adapters = Adapters(backbone, settings.adapter_width, settings.adapter_scale, settings.adapter_dropout)
        self.head = GrowingLinear(backbone.embed_dim)

    def add_task(self, task: Task) -> None:
        """Head rows for the task's classes."""
        super().add_task(task)
        self.head.grow(task.size)
        if self.settings.classes == "seen":
            self.first_class = 0

    @torch.no_grad()
    def frozen_forward(self, images: Tensor) -> Tensors:
        """The stem."""
        return first_block(self.backbone, images)

    def features(self, frozen: Tensors) -> Tensors:
        """The adapted feature (B, d)."""
        return (self.adapters.feature(self.backbone, FirstBlock(*frozen)),)

    def loss(self, features: Tensors, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross entropy of the head's logits."""
        loss = F.cross_entropy(self.training_logits(features), labels - self.first_class)
        return loss, {"cross_entropy": loss}

    def scores_from_features(self, features: Tensors) -> Tensor:
        """Logits (B, classes seen)."""
        return self.head(*features)


LEARNER = AdapterFineTuning
