"""NTK-CL (Liu et al., arXiv 2407.17120): two subnetworks, their running means, a fused feature and its prototypes.

Defaults are what the authors' code does, for CIFAR-100, since the published numbers came from it.
"""

from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from ntkcl.batches import TaskImages
from ntkcl.methods import ntk_cl_fusion
from ntkcl.methods.learner import Learner, Tensors, class_means
from ntkcl.methods.ntk_cl_terms import info_nce, leading_directions
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
    prompt_start: Literal["zero", "alive"] = Field("zero", description="alive: the map that makes prompts can learn")
    prompt_scale: NotNegative = Field(0.1, description="factor of the prompts from the block before")
    previous_dropout: bool = Field(True, description="dropout also in the frozen previous branch, in training")
    pretrained_section: bool = Field(False, description="the plain ViT's feature as a third section")
    previous: Literal["mean", "last", "decay", "none"] = Field(
        "mean", description="previous copy: mean over tasks, last task's, decaying mean, or no such section"
    )
    previous_decay: Fraction = Field(0.5, description="what a decaying mean keeps of itself at a task's end")
    fusion: ntk_cl_fusion.Kind = Field(
        "attention", description="hybrid feature; value: attention without query and key"
    )
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
    dissimilarity: Literal["sum", "squared_norm"] = Field(
        "sum", description="of what is outside earlier prototypes' span"
    )
    dissimilarity_basis: Count = Field(40, description="most basis vectors of the earlier prototypes")
    regularization_weight: NotNegative = Field(1e-3, description="lambda")
    regularization: Literal["l2", "l1"] = Field("l2", description="squared, or absolute, change of weights")
    undefined_terms: Literal["zero", "error"] = Field(
        "zero", description="InfoNCE of a batch without a positive pair: 0, as released, or stop"
    )
    inference_feature: Feature = Field("hybrid", description="what is compared with the (hybrid) prototypes")
    inference_weights: tuple[float, float, float] = Field(
        (1.0, 0.3, 0.1), description="of the pre-trained, previous and current section"
    )

    prototypes: Literal["kept", "recomputed"] = Field(
        "kept", description="recomputed: an oracle, from the images of all tasks at the end of each"
    )

    @model_validator(mode="before")
    @classmethod
    def _as_it_was_called(cls, values: Any) -> Any:
        """States of earlier versions say `running_mean` instead of `previous`."""
        if isinstance(values, dict) and "running_mean" in values:
            values = dict(values)
            values["previous"] = "mean" if values.pop("running_mean") else "last"
        return values

    @property
    def sections(self) -> dict[str, float]:
        """The sections of a feature in order, with their weights in inference."""
        weights = dict(zip(("pretrained", "previous", "current"), self.inference_weights, strict=True))
        is_there = {"pretrained": self.pretrained_section, "previous": self.previous != "none", "current": True}
        return {name: weight for name, weight in weights.items() if is_there[name]}


class Branch(nn.Module):
    """One copy of both subnetworks."""

    def __init__(self, vit: "VisionTransformer", settings: NTKCLSettings) -> None:
        super().__init__()
        self.channel = Adapters(vit, settings.adapter_width, settings.adapter_scale, settings.adapter_dropout)
        self.patch = PatchPrompts(vit, settings.prompts, settings.prompt_scale, settings.prompt_start == "alive")

    def forward(self, vit: "VisionTransformer", stem: Stem) -> tuple[Tensor, Tensor]:
        """Channel and patch feature, (B, d) each."""
        return self.channel.feature(vit, stem), self.patch.feature(vit, stem)


class NTKCL(Learner):
    """The learner. A feature has the sections [pre-trained if chosen, previous if kept, current], each d wide."""

    Settings = NTKCLSettings

    def __init__(self, backbone: "VisionTransformer", settings: NTKCLSettings) -> None:
        super().__init__(backbone, settings)
        s, self.dim = settings, backbone.embed_dim * len(settings.sections)
        self.current = Branch(backbone, settings)
        self.previous = Branch(backbone, settings).requires_grad_(False) if "previous" in s.sections else None
        self.fusion = ntk_cl_fusion.fusion(
            s.fusion, self.dim, s.fusion_heads, s.fusion_dropout, s.fusion_patch, s.fusion_attention
        )
        self.proxies = CosineClassifier(self.dim, 0)
        self.register_buffer("prototypes", torch.empty(0, self.dim))
        self.recalls = settings.prototypes == "recomputed"

    def train(self, mode: bool = True) -> "NTKCL":
        """As for every learner; dropout in the previous branch is a setting of its own."""
        super().train(mode)
        if self.previous is not None:
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
        self.basis = leading_directions(self.prototypes[: self.first_class], self.settings.dissimilarity_basis)
        ones = self.prototypes.new_ones(self.dim)
        self.remainder = ones - self.basis @ (self.basis.T @ ones)

    @torch.no_grad()
    def frozen(self, images: Tensor) -> Tensors:
        """The stem, and all sections but the current one of the channel and of the patch feature."""
        first, sections = stem(self.backbone, images), []
        if self.settings.pretrained_section:
            plain = plain_feature(self.backbone, first)
            sections.append((plain, plain))
        if self.previous is not None:
            sections.append(self.previous(self.backbone, first))
        return *first, *(torch.cat(parts, 1) for parts in zip(*sections, strict=True))

    def features(self, frozen: Tensors) -> Tensors:
        """Channel and patch feature, (B, D) each, with all sections."""
        half, mlp, *fixed = frozen
        current = self.current(self.backbone, Stem(half, mlp))
        return tuple(torch.cat(parts, 1) for parts in zip(fixed, current, strict=True)) if fixed else current

    def named_features(self, features: Tensors) -> dict[Feature, Tensor]:
        """The three features, (B, D) each."""
        channel, patch = features
        return {"channel": channel, "patch": patch, "hybrid": self.fusion(channel, patch)}

    def loss(self, features: Tensors, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum of: three cross entropies, -InfoNCE, dissimilarity and regularization."""
        s, features = self.settings, self.named_features(features)
        ce_weights = {"channel": s.channel_weight, "patch": s.patch_weight, "hybrid": s.hybrid_weight}
        terms, total = {}, 0.0
        for name, weight in ce_weights.items():
            if weight:
                logits = self.proxies(features[name])
                terms[f"ce_{name}"] = F.cross_entropy(logits, labels - self.first_class)
                total = total + weight * terms[f"ce_{name}"]
        drawn = torch.randperm(self.first_class, device=labels.device)[: self.most_drawn]  # also where it is not used
        if s.info_nce_weight:
            terms["info_nce"] = self._info_nce(features["hybrid"], labels, drawn)
            term = terms["info_nce"]
            known = torch.where(term.isfinite(), term, 0.0) if s.undefined_terms == "zero" else term
            total = total - s.info_nce_weight * known
        if s.dissimilarity_weight:
            terms["dissimilarity"] = self._dissimilarity(features["channel"], features["patch"])
            total = total + s.dissimilarity_weight * terms["dissimilarity"]
        if s.regularization_weight:
            change = self._regularized() - self.anchor
            terms["regularization"] = (change.square() if s.regularization == "l2" else change.abs()).sum()
            total = total + s.regularization_weight * terms["regularization"]
        return total, terms

    @torch.no_grad()
    def end_task(self, task: Task, images: TaskImages) -> None:
        """The running mean takes in the current copy (not after the last task); then the class means are taken."""
        if not task.is_last:
            self._consolidate(task)
        self.recall(task, images)

    @torch.no_grad()
    def recall(self, task: Task, images: TaskImages) -> None:
        """The class means become the prototypes of the classes of `task`."""
        features = ((self.fusion(*self.see(batch)), labels) for batch, labels in images.in_order())
        self.prototypes[task.first_class : task.classes_seen] = class_means(features, task)

    def logits(self, features: Tensors) -> Tensor:
        """The proxies' logits (B, classes of the task) of the hybrid feature."""
        return self.proxies(self.fusion(*features))

    def scores_of(self, features: Tensors) -> Tensor:
        """As `compare`, of the feature that inference is told to take."""
        return self.compare(self.named_features(features)[self.settings.inference_feature])

    def compare(self, feature: Tensor) -> Tensor:
        """Weighted cosines (B, classes seen) of the sections of a feature (B, D) and of the prototypes."""
        return prototype_scores(feature, self.prototypes, tuple(self.settings.sections.values()))

    def _info_nce(self, hybrid: Tensor, labels: Tensor, drawn: Tensor) -> Tensor:
        """InfoNCE of the batch and the earlier prototypes `drawn`, as many, without replacement."""
        rows = torch.cat((hybrid, self.prototypes[drawn]))
        return info_nce(rows, torch.cat((labels, drawn)), self.settings.info_nce_temperature)

    def _dissimilarity(self, channel: Tensor, patch: Tensor) -> Tensor:
        """What the directions of both features have outside the span of the earlier prototypes."""
        channel, patch = F.normalize(channel, dim=1), F.normalize(patch, dim=1)
        if self.settings.dissimilarity == "sum":
            return ((channel + patch) @ self.remainder).sum()
        return sum((rows - rows @ self.basis @ self.basis.T).square().sum() for rows in (channel, patch))

    def _consolidate(self, task: Task) -> None:
        """previous <- kept * previous + taken * current; for the mean over tasks 1 / (t + 1) is taken at task index t.

        Nothing is kept of what the copy was at the start.
        """
        if self.previous is None:
            return
        decay = self.settings.previous_decay if task.index else 0.0
        share = 1 / (task.index + 1)
        parts = {"mean": (task.index * share, share), "last": (0.0, 1.0), "decay": (decay, 1 - decay)}
        kept, taken = parts[self.settings.previous]
        for previous, current in zip(self.previous.parameters(), self.current.parameters(), strict=True):
            previous.mul_(kept).add_(current, alpha=taken)

    def _regularized(self) -> Tensor:
        """The weights (no biases) of both subnetworks and of query, key and value, in one vector."""
        named = [*self.current.named_parameters(), *self.fusion.named_parameters()]
        return torch.cat([parameter.flatten() for name, parameter in named if name.endswith("weight")])
