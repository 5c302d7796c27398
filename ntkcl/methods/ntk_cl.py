"""NTK-CL (Liu et al., arXiv 2407.17120): two subnetworks, their running means, a fused feature and its prototypes.

Defaults are what the authors' code does, for CIFAR-100, since the published numbers came from it.
"""

import copy
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ntkcl.batches import TaskImages
from ntkcl.errors import UserError
from ntkcl.methods.learner import Learner, Tensors, class_means
from ntkcl.methods.ntk_cl_terms import info_nce, orthogonal_remainder
from ntkcl.peft.adapters import Adapters
from ntkcl.peft.heads import CosineClassifier, prototype_scores
from ntkcl.peft.patch_prompts import PatchPrompts
from ntkcl.peft.vit import Stem, plain_feature, stem
from ntkcl.settings import Count, Fraction, Model, NotNegative, Positive, Task, Training

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer

Feature = Literal["channel", "patch", "hybrid"]


class NTKCLSettings(Model):
    """Settings of NTK-CL; a weight of 0 switches its term off."""

    adapter_width: Count = 16
    adapter_scale: NotNegative = 0.1
    adapter_dropout: Fraction = 0.1
    prompts: Count = Field(10, description="prompt tokens of the patch subnetwork in each block")
    prompt_scale: NotNegative = Field(0.1, description="factor of the prompts from the block before")
    previous_dropout: bool = Field(True, description="dropout also in the frozen previous branch, in training")
    pretrained_section: bool = Field(False, description="the plain ViT's feature as a third section")
    running_mean: bool = Field(True, description="previous copy: mean over tasks, or the last task's copy")
    fusion_patch: float = Field(0.1, description="weight of the patch feature in the hybrid one")
    fusion_attention: float = Field(0.5, description="weight of the attention in the hybrid feature")
    fusion_heads: Count = 8
    fusion_dropout: Fraction = 0.1
    proxy_scale: Positive = Field(1.0, description="start of the proxies' learned scale")
    channel_weight: NotNegative = Field(1.0, description="weight of the channel feature's cross entropy")
    patch_weight: NotNegative = Field(1.0, description="weight of the patch feature's cross entropy")
    hybrid_weight: NotNegative = Field(1.0, description="weight of the hybrid feature's cross entropy")
    info_nce_weight: float = Field(0.03, description="eta; InfoNCE is maximized, as released (negative: minimized)")
    info_nce_temperature: Positive = 0.1
    dissimilarity_weight: float = Field(1e-4, description="upsilon")
    dissimilarity_basis: Count = Field(40, description="most basis vectors of the earlier prototypes")
    regularization_weight: NotNegative = Field(1e-3, description="lambda")
    undefined_terms: Literal["zero", "error"] = Field(
        "zero", description="InfoNCE of a batch without a positive pair: 0, as released, or stop"
    )
    inference_feature: Feature = Field("hybrid", description="what is compared with the (hybrid) prototypes")
    inference_weights: tuple[float, float, float] = Field(
        (1.0, 0.3, 0.1), description="of the pre-trained, previous and current section"
    )


class Branch(nn.Module):
    """One copy of both subnetworks."""

    def __init__(self, vit: "VisionTransformer", settings: NTKCLSettings) -> None:
        super().__init__()
        self.channel = Adapters(vit, settings.adapter_width, settings.adapter_scale, settings.adapter_dropout)
        self.patch = PatchPrompts(vit, settings.prompts, settings.prompt_scale)

    def forward(self, vit: "VisionTransformer", stem: Stem) -> tuple[Tensor, Tensor]:
        """Channel and patch feature, (B, d) each."""
        return self.channel.feature(vit, stem), self.patch.feature(vit, stem)


class Fusion(nn.Module):
    """hybrid = channel + a * patch + b * attention(query = patch, key = value = channel), without an output map.

    A softmax over a single key is 1: the attention is its value map, and no gradient reaches query and key. They are
    kept, since weight decay and the regularization act on them as in the released code.
    """

    def __init__(self, dim: int, settings: NTKCLSettings) -> None:
        super().__init__()
        if dim % settings.fusion_heads:
            raise UserError(
                f"fusion_heads = {settings.fusion_heads} does not divide the feature width {dim}; change it"
            )
        self.query, self.key, self.value = (nn.Linear(dim, dim) for _ in range(3))
        self.dropout = nn.Dropout(settings.fusion_dropout)
        self.heads = settings.fusion_heads
        self.patch_weight, self.attention_weight = settings.fusion_patch, settings.fusion_attention

    def forward(self, channel: Tensor, patch: Tensor) -> Tensor:
        """Features (B, D) to the hybrid feature (B, D)."""
        query, key, value = (
            linear(x).unflatten(1, (self.heads, 1, -1))
            for linear, x in ((self.query, patch), (self.key, channel), (self.value, channel))
        )
        similarity = query @ key.transpose(2, 3) / query.shape[3] ** 0.5
        attention = (self.dropout(similarity.softmax(3)) @ value).flatten(1)
        return channel + self.patch_weight * patch + self.attention_weight * attention


class NTKCL(Learner):
    """The learner. A feature has the sections [pre-trained if chosen, previous, current], D = 2 d or 3 d wide."""

    Settings = NTKCLSettings

    def __init__(self, backbone: "VisionTransformer", settings: NTKCLSettings) -> None:
        super().__init__(backbone, settings)
        self.dim = backbone.embed_dim * (3 if settings.pretrained_section else 2)
        self.current = Branch(backbone, settings)
        self.previous = Branch(backbone, settings).requires_grad_(False)
        self.fusion = Fusion(self.dim, settings)
        self.proxies = CosineClassifier(self.dim, 0)
        self.register_buffer("prototypes", torch.empty(0, self.dim))
        self.first_class = 0

    def train(self, mode: bool = True) -> "NTKCL":
        """As for every learner; dropout in the previous branch is a setting of its own."""
        super().train(mode)
        self.previous.train(mode and self.settings.previous_dropout)
        return self

    def grow(self, task: Task) -> None:
        """Fresh proxies for the task's classes, and room for their prototypes."""
        fresh = CosineClassifier(self.dim, task.size, self.settings.proxy_scale)
        self.proxies = fresh.to(self.prototypes)
        self.prototypes = torch.cat((self.prototypes, self.prototypes.new_zeros(task.size, self.dim)))
        self.first_class = task.first_class

    @torch.no_grad()
    def begin_task(self, task: Task, images: TaskImages, training: Training) -> None:
        """What stays fixed during a task: the values to stay close to, and the space to be dissimilar from."""
        self.most_drawn = training.batch_size
        self.anchor = self._regularized()
        self.remainder = orthogonal_remainder(self.prototypes[: self.first_class], self.settings.dissimilarity_basis)

    @torch.no_grad()
    def frozen(self, images: Tensor) -> Tensors:
        """The stem, and all sections but the current one of the channel and of the patch feature."""
        first = stem(self.backbone, images)
        channel, patch = self.previous(self.backbone, first)
        if self.settings.pretrained_section:
            plain = plain_feature(self.backbone, first)
            channel, patch = torch.cat((plain, channel), 1), torch.cat((plain, patch), 1)
        return *first, channel, patch

    def features(self, frozen: Tensors) -> Tensors:
        """Channel and patch feature, (B, D) each, with all sections."""
        half, mlp, channel, patch = frozen
        current_channel, current_patch = self.current(self.backbone, Stem(half, mlp))
        return torch.cat((channel, current_channel), 1), torch.cat((patch, current_patch), 1)

    def with_hybrid(self, features: Tensors) -> dict[Feature, Tensor]:
        """The three features, (B, D) each."""
        channel, patch = features
        return {"channel": channel, "patch": patch, "hybrid": self.fusion(channel, patch)}

    def loss(self, features: Tensors, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum of: three cross entropies, -InfoNCE, dissimilarity and regularization."""
        s, features = self.settings, self.with_hybrid(features)
        ce_weights = {"channel": s.channel_weight, "patch": s.patch_weight, "hybrid": s.hybrid_weight}
        terms, total = {}, 0.0
        for name, weight in ce_weights.items():
            if weight:
                logits = self.proxies(features[name])
                terms[f"ce_{name}"] = F.cross_entropy(logits, labels - self.first_class)
                total = total + weight * terms[f"ce_{name}"]
        if s.info_nce_weight:
            terms["info_nce"] = self._info_nce(features["hybrid"], labels)
            term = terms["info_nce"]
            known = torch.where(term.isfinite(), term, 0.0) if s.undefined_terms == "zero" else term
            total = total - s.info_nce_weight * known
        if s.dissimilarity_weight:
            directions = F.normalize(features["channel"], dim=1) + F.normalize(features["patch"], dim=1)
            terms["dissimilarity"] = (directions @ self.remainder).sum()
            total = total + s.dissimilarity_weight * terms["dissimilarity"]
        if s.regularization_weight:
            terms["regularization"] = (self._regularized() - self.anchor).square().sum()
            total = total + s.regularization_weight * terms["regularization"]
        return total, terms

    @torch.no_grad()
    def end_task(self, task: Task, images: TaskImages) -> None:
        """The running mean takes in the current copy (not after the last task); then the class means are taken."""
        if not task.is_last:
            self._consolidate(task)
        features = ((self.fusion(*self.see(batch)), labels) for batch, labels in images.in_order())
        self.prototypes[task.first_class :] = class_means(features, task)

    def scores_of(self, features: Tensors) -> Tensor:
        """As `compare`, of the feature that inference is told to take."""
        return self.compare(self.with_hybrid(features)[self.settings.inference_feature])

    def compare(self, feature: Tensor) -> Tensor:
        """Weighted cosines (B, classes seen) of the sections of a feature (B, D) and of the prototypes."""
        weights = self.settings.inference_weights
        return prototype_scores(feature, self.prototypes, weights if self.settings.pretrained_section else weights[1:])

    def _info_nce(self, hybrid: Tensor, labels: Tensor) -> Tensor:
        """InfoNCE of the batch and as many earlier prototypes, drawn without replacement."""
        drawn = torch.randperm(self.first_class, device=labels.device)[: self.most_drawn]
        rows = torch.cat((hybrid, self.prototypes[drawn]))
        return info_nce(rows, torch.cat((labels, drawn)), self.settings.info_nce_temperature)

    def _consolidate(self, task: Task) -> None:
        """previous <- t/(t+1) * previous + 1/(t+1) * current for task index t."""
        if not self.settings.running_mean:
            self.previous.load_state_dict(copy.deepcopy(self.current.state_dict()))
            return
        share = 1 / (task.index + 1)
        for previous, current in zip(self.previous.parameters(), self.current.parameters(), strict=True):
            previous.mul_(task.index * share).add_(current, alpha=share)

    def _regularized(self) -> Tensor:
        """The weights (no biases) of both subnetworks and of query, key and value, in one vector."""
        named = [*self.current.named_parameters(), *self.fusion.named_parameters()]
        return torch.cat([parameter.flatten() for name, parameter in named if name.endswith("weight")])
