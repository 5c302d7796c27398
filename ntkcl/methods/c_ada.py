"""C-ADA, "Continual Adapter" (Gao et al., ECCV 2024, arXiv 2407.10281): our reading of the abstract, no official code.

What the abstract leaves open is a setting here, or said in docs/methods/c_ada.md.
"""

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from ntkcl.backbones.vit_blocks import check_blocks, class_feature, embed
from ntkcl.methods.learner import Learner, Tensors
from ntkcl.peft.continual_adapter import ContinualAdapters
from ntkcl.peft.heads import GrowingLinear
from ntkcl.settings.models import Block, Count, Model, NotNegative
from ntkcl.tasks import Task

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer


class CADA(Learner):
    """Adapters beside both halves of a block get new hidden units with each task; the old ones are frozen.

    A loss keeps the new weights orthogonal to the old ones. The first task also learns a scale and shift of the inputs.
    """

    class Settings(Model):
        """Settings of the adapters. The defaults are those of a third-party port: the paper's are not known to us."""

        blocks: tuple[Block, ...] = Field((0, 1, 2, 3, 4), description="blocks with adapters, from 0")
        attention_width: Count = Field(40, description="hidden units of a task beside attention")
        mlp_width: Count = Field(20, description="hidden units of a task beside the MLP")
        adapter_scale: NotNegative = Field(0.1, description="factor of the adapters' outputs")
        orthogonality_weight: NotNegative = Field(
            1.0, description="weight of the loss on products of new and old weights"
        )

    def __init__(self, backbone: "VisionTransformer", settings: Settings) -> None:
        super().__init__(backbone, settings)
        s = settings
        check_blocks(backbone, s.blocks)
        widths = s.attention_width, s.mlp_width
        self.adapters = ContinualAdapters(backbone.embed_dim, s.blocks, widths, s.adapter_scale)
        self.head = GrowingLinear(backbone.embed_dim)

    def add_task(self, task: Task) -> None:
        """Add hidden units and rows of the head; scales and shifts are trained by the first task alone."""
        super().add_task(task)
        self.head.grow(task.size)
        for adapter in self.adapters.all():
            adapter.grow()
            adapter.input.requires_grad_(task.index == 0)

    @torch.no_grad()
    def backbone_forward(self, images: Tensor) -> Tensors:
        """Compute the input tokens (B, N, d) of the first block."""
        return (embed(self.backbone, images),)

    def features(self, frozen: Tensors) -> Tensors:
        """Compute the feature (B, d)."""
        return (class_feature(self.backbone, self.adapters.through_blocks(self.backbone, *frozen)),)

    def loss(self, features: Tensors, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the cross entropy among the task's classes, and the overlap of new with old weights."""
        cross_entropy = F.cross_entropy(self.training_logits(features), labels - self.first_class)
        overlap = sum(adapter.overlap() for adapter in self.adapters.all())
        total = cross_entropy + self.settings.orthogonality_weight * overlap
        return total, {"cross_entropy": cross_entropy, "orthogonality": overlap}

    def scores_from_features(self, features: Tensors) -> Tensor:
        """Compute the logits (B, classes learned)."""
        return self.head(*features)


LEARNER = CADA
