"""EASE, "Expandable Subspace Ensemble for Pre-Trained Model-Based CIL" (Zhou et al., CVPR 2024, arXiv 2403.12030)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ntkcl.backbones.vit_blocks import FirstBlock, first_block
from ntkcl.methods.learner import Learner, Tensors, class_means
from ntkcl.peft.adapters import Adapters, AdapterSettings
from ntkcl.peft.heads import CosineClassifier, prototype_scores
from ntkcl.settings.models import NotNegative, Positive
from ntkcl.tasks import Task, TaskImages

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer


class EASE(Learner):
    """Each task trains adapters of its own, whose feature is a subspace; a prototype has a part for each subspace.

    Images of old tasks are not there when a new subspace is made: the old classes' parts in it are synthesized from
    those of the new classes.
    """

    class Settings(AdapterSettings):
        """Settings of the adapters and the prototypes. The defaults are the released ones for CIFAR-100."""

        proxy_scale: Positive = Field(1.0, description="initial scale of the proxies' logits, which is learned")
        other_subspaces: NotNegative = Field(
            0.1, description="weight of the mean cosine over the subspaces of other tasks; that of the class's own is 1"
        )
        synthesis: Literal["all", "newest"] = Field(
            "all",
            description="all: a task computes all synthesized parts again, from all classes learned since their "
            "subspace was made; newest: only those of the new subspace, once",
        )

    def __init__(self, backbone: "VisionTransformer", settings: Settings) -> None:
        super().__init__(backbone, settings)
        self.tasks: list[Task] = []
        self.adapter_sets = nn.ModuleList()
        self.proxies = CosineClassifier(backbone.embed_dim, 0)
        self.register_buffer("prototypes", torch.empty(0, 0))

    def add_task(self, task: Task) -> None:
        """Create the task's adapters and proxies, and allocate the parts of the prototypes; earlier adapters stay."""
        super().add_task(task)
        s, dim = self.settings, self.backbone.embed_dim
        self.tasks.append(task)
        self.adapter_sets.requires_grad_(False)
        adapters = Adapters(self.backbone, s.adapter_width, s.adapter_scale, s.adapter_dropout)
        self.adapter_sets.append(adapters.to(self.prototypes))
        self.proxies = CosineClassifier(dim, task.size, s.proxy_scale).to(self.prototypes)
        self.prototypes = F.pad(self.prototypes, (0, dim, 0, task.size))

    @torch.no_grad()
    def backbone_forward(self, images: Tensor) -> Tensors:
        """Compute the first block, without adapters."""
        return first_block(self.backbone, images)

    def features(self, frozen: Tensors) -> Tensors:
        """Compute the feature (B, tasks * d): one part of width d for each subspace."""
        parts = [adapters.feature(self.backbone, FirstBlock(*frozen)) for adapters in self.adapter_sets]
        return (torch.cat(parts, 1),)

    def training_features(self, frozen: Tensors, drawn: Tensors) -> Tensors:
        """Compute the feature (B, d) of the task's own subspace."""
        return (self.adapter_sets[-1].feature(self.backbone, FirstBlock(*frozen)),)

    def loss(self, features: Tensors, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the cross entropy of the proxies of the task's classes."""
        loss = F.cross_entropy(self.training_logits(features), labels - self.first_class)
        return loss, {"cross_entropy": loss}

    @torch.no_grad()
    def end_task(self, task: Task, images: TaskImages) -> None:
        """Compute the class means in all subspaces, in one pass over the images, and synthesize the missing parts."""
        features = ((self.extract_features(batch)[0], labels) for batch, labels in images.eval_batches())
        self.prototypes[task.first_class :] = class_means(features, task)
        for old in self.tasks[:-1]:
            later = self.tasks[old.index + 1 :] if self.settings.synthesis == "all" else [task]
            for each in later:
                self._synthesize(old, each)

    def _synthesize(self, old: Task, new: Task) -> None:
        """Compute the parts of `old` in the subspace of `new` as means of those of classes learned from `new` on.

        Weights are softmax(cosine) to these classes in the subspace of `old`, where all of them were seen.
        """
        dim = self.backbone.embed_dim
        own, there = (slice(dim * task.index, dim * (task.index + 1)) for task in (old, new))
        targets, sources = slice(old.first_class, old.classes_learned), slice(new.first_class, None)
        weights = prototype_scores(self.prototypes[targets, own], self.prototypes[sources, own]).softmax(1)
        self.prototypes[targets, there] = weights @ self.prototypes[sources, there]

    def training_logits(self, features: Tensors) -> Tensor:
        """Compute the proxies' logits (B, classes of the task) in the task's own subspace."""
        return self.proxies(features[0][:, -self.backbone.embed_dim :])

    def scores_from_features(self, features: Tensors) -> Tensor:
        """Compute the weighted cosines (B, classes learned) over the subspaces."""
        last, scores = self.tasks[-1].index, 0.0
        of_class = torch.cat([features[0].new_full((task.size,), task.index) for task in self.tasks])
        parts = (tensor.split(self.backbone.embed_dim, 1) for tensor in (features[0], self.prototypes))
        for index, (feature, prototypes) in enumerate(zip(*parts, strict=True)):
            weights = torch.where(of_class == index, 1.0, self.settings.other_subspaces / max(last, 1))
            scores = scores + weights * prototype_scores(feature, prototypes)
        return scores

    @staticmethod
    def scores_of_states(learners: Sequence["EASE"], images: Tensor) -> list[Tensor]:
        """Scores of images by each of several states of a run: the states share the subspaces of the longest one."""
        longest = max(learners, key=lambda learner: len(learner.tasks))
        (feature,) = longest.extract_features(images)
        dim = longest.backbone.embed_dim
        return [each.scores_from_features((feature[:, : dim * len(each.tasks)],)) for each in learners]


LEARNER = EASE
