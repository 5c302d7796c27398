"""What RanPAC and APER share: a module in the backbone learns the first task, and later tasks train nothing."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from ntkcl.backbones.vit_blocks import FirstBlock, first_block, plain_feature
from ntkcl.methods.learner import Learner, Tensors
from ntkcl.peft.adapters import Adapters, AdapterSettings
from ntkcl.peft.heads import CosineClassifier
from ntkcl.peft.scale_shift import ScaleShifts
from ntkcl.settings.models import Positive
from ntkcl.tasks import Task

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer


class FirstTaskLearner(Learner):
    """The module is trained with cosine proxies of the first task's classes, which are thrown away afterwards."""

    trains_first_task_only = True

    class Settings(AdapterSettings):
        """Settings of the module."""

        module: Literal["adapter", "scale_shift", "none"] = Field(
            "adapter", description="what the first task trains in the backbone"
        )
        proxy_scale: Positive = Field(1.0, description="initial scale of the proxies' logits, which is learned")

    def __init__(self, backbone: "VisionTransformer", settings: Settings) -> None:
        super().__init__(backbone, settings)
        s, self.module = settings, None
        if s.module == "adapter":
            self.module = Adapters(backbone, s.adapter_width, s.adapter_scale, s.adapter_dropout)
        elif s.module == "scale_shift":
            self.module = ScaleShifts(backbone)
        self.proxies = CosineClassifier(backbone.embed_dim, 0)

    def add_task(self, task: Task) -> None:
        """Create the proxies of the first task; afterwards, nothing is trained."""
        super().add_task(task)
        self.is_first = task.index == 0
        size = task.size if self.is_first else 0
        proxies = CosineClassifier(self.backbone.embed_dim, size, self.settings.proxy_scale)
        self.proxies = proxies.to(self.proxies.weight)
        if self.module is None or not self.is_first:
            self.requires_grad_(False)

    @torch.no_grad()
    def backbone_forward(self, images: Tensor) -> Tensors:
        """Compute what the module does not change: the first block, the patches, or the plain feature (B, d)."""
        if self.settings.module == "scale_shift":
            return (self.backbone.patch_embed(images),)
        first = first_block(self.backbone, images)
        return first if self.module else (plain_feature(self.backbone, first),)

    def features(self, frozen: Tensors) -> Tensors:
        """Compute the adapted feature (B, d)."""
        if self.module is None:
            return frozen
        inputs = frozen[0] if self.settings.module == "scale_shift" else FirstBlock(*frozen[:2])
        return (self.module.feature(self.backbone, inputs),)

    def loss(self, features: Tensors, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the cross entropy of the proxies."""
        loss = F.cross_entropy(self.training_logits(features), labels)
        return loss, {"cross_entropy": loss}

    def training_logits(self, features: Tensors) -> Tensor:
        """Compute the proxies' logits in the first task, later the scores of the task's classes."""
        return self.proxies(features[0]) if self.is_first else super().training_logits(features)

    @staticmethod
    def scores_of_states(learners: Sequence["FirstTaskLearner"], images: Tensor) -> list[Tensor]:
        """Scores of images by each of several states of a run; they have the same features."""
        features = learners[0].extract_features(images)
        return [learner.scores_from_features(features) for learner in learners]
