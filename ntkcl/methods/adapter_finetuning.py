"""Fine-tuning an adapter and a linear head: task after task the lower bound, on all classes at once the upper one."""

from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from ntkcl.methods.learner import Learner, Tensors
from ntkcl.peft.adapters import Adapters
from ntkcl.peft.heads import GrowingLinear
from ntkcl.peft.vit import Stem, stem
from ntkcl.settings import Count, Fraction, Model, NotNegative, Task

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

    def grow(self, task: Task) -> None:
        """Head rows for the task's classes."""
        self.head.grow(task.size)
        self.first_class = task.first_class if self.settings.classes == "task" else 0

    @torch.no_grad()
    def frozen(self, images: Tensor) -> Tensors:
        """The stem."""
        return stem(self.backbone, images)

    def features(self, frozen: Tensors) -> Tensors:
        """The adapted feature (B, d)."""
        return (self.adapters.feature(self.backbone, Stem(*frozen)),)

    def loss(self, features: Tensors, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross entropy of the head's logits."""
        loss = F.cross_entropy(self.logits(features), labels - self.first_class)
        return loss, {"cross_entropy": loss}

    def scores_of(self, features: Tensors) -> Tensor:
        """Logits (B, classes seen)."""
        return self.head(*features)
