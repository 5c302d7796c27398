"""The learner of NTK-CL (Liu et al., arXiv 2407.17120)."""

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ntkcl.backbones.vit_blocks import FirstBlock, first_block, plain_feature
from ntkcl.methods.learner import Learner, Tensors, class_means
from ntkcl.methods.ntk_cl.fusion import build_fusion
from ntkcl.methods.ntk_cl.losses import info_nce, leading_directions
from ntkcl.methods.ntk_cl.settings import Feature, NTKCLSettings
from ntkcl.peft.adapters import Adapters
from ntkcl.peft.heads import CosineClassifier, prototype_scores
from ntkcl.peft.patch_prompts import PatchPrompts
from ntkcl.settings.models import Training
from ntkcl.tasks import Task, TaskImages

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer


class FrozenFeatures(NamedTuple):
    """Features that a task's training does not change.

    Args:
        half: (B, N, d), see `FirstBlock`.
        mlp: (B, N, d), see `FirstBlock`.
        channel: (B, D - d), all parts of the channel feature except the current one.
        patch: (B, D - d), all parts of the patch feature except the current one.
    """

    half: Tensor
    mlp: Tensor
    channel: Tensor
    patch: Tensor


class Subnetworks(nn.Module):
    """One copy of both subnetworks: adapters (S1, channel) and patch prompts (S2, patch)."""

    def __init__(self, vit: "VisionTransformer", settings: NTKCLSettings) -> None:
        super().__init__()
        self.channel = Adapters(vit, settings.adapter_width, settings.adapter_scale, settings.adapter_dropout)
        self.patch = PatchPrompts(vit, settings.prompts, settings.prompt_scale, settings.prompt_init == "trainable")

    def forward(self, vit: "VisionTransformer", first: FirstBlock) -> tuple[Tensor, Tensor]:
        """Compute channel and patch feature, (B, d) each."""
        return self.channel.feature(vit, first), self.patch.feature(vit, first)


class NTKCL(Learner):
    """NTK-CL. A feature has the parts [pre-trained if chosen, previous if kept, current], each of width d."""

    Settings = NTKCLSettings
    zero_gradients = True  # as in the released code: weight decay also acts on what the loss does not reach

    def __init__(self, backbone: "VisionTransformer", settings: NTKCLSettings) -> None:
        super().__init__(backbone, settings)
        s, self.dim = settings, backbone.embed_dim * len(settings.feature_parts)
        self.current_adapters = Subnetworks(backbone, settings)
        self.previous_adapters = None
        if "previous" in s.feature_parts:
            self.previous_adapters = Subnetworks(backbone, settings).requires_grad_(False)
        self.fusion = build_fusion(
            s.fusion, self.dim, s.fusion_heads, s.fusion_dropout, s.fusion_patch, s.fusion_attention
        )
        self.proxies = CosineClassifier(self.dim, 0)
        self.register_buffer("prototypes", torch.empty(0, self.dim))
        self.needs_old_images = settings.prototypes == "recomputed"

    def train(self, mode: bool = True) -> "NTKCL":
        """Switch training mode; for dropout in the previous adapters, a setting decides."""
        super().train(mode)
        if self.previous_adapters is not None:
            self.previous_adapters.train(mode and self.settings.previous_adapters_dropout)
        return self

    def add_task(self, task: Task) -> None:
        """Create new proxies for the task's classes, and allocate their prototypes."""
        super().add_task(task)
        fresh = CosineClassifier(self.dim, task.size, self.settings.proxy_scale)
        self.proxies = fresh.to(self.prototypes)
        self.prototypes = torch.cat((self.prototypes, self.prototypes.new_zeros(task.size, self.dim)))

    @torch.no_grad()
    def begin_task(self, task: Task, images: TaskImages, training: Training) -> None:
        """Compute what is fixed during a task: reference values of the regularization, span of the dissimilarity."""
        self.sampled_prototypes = training.batch_size
        self.initial_weights = self._regularized()
        self.basis = leading_directions(self.prototypes[: self.first_class], self.settings.dissimilarity_basis)
        ones = self.prototypes.new_ones(self.dim)
        self.remainder = ones - self.basis @ (self.basis.T @ ones)

    @torch.no_grad()
    def backbone_forward(self, images: Tensor) -> Tensors:
        """Compute the first block and, if it is part of the features, the plain feature (B, d)."""
        first = first_block(self.backbone, images)
        return (*first, plain_feature(self.backbone, first)) if self.settings.pretrained_part else first

    @torch.no_grad()
    def fixed_from_backbone(self, outputs: Tensors) -> Tensors:
        """Add the previous part of the patch feature."""
        if self.previous_adapters is None:
            return outputs
        return (*outputs, self.previous_adapters.patch.feature(self.backbone, FirstBlock(*outputs[:2])))

    @torch.no_grad()
    def frozen_from_fixed(self, fixed: Tensors) -> FrozenFeatures:
        """Add all parts of the channel feature except the current one; the previous adapters may have dropout."""
        first, patch = FirstBlock(*fixed[:2]), fixed[2:]
        channel = patch[:1] if self.settings.pretrained_part else ()
        if self.previous_adapters is not None:
            channel = (*channel, self.previous_adapters.channel.feature(self.backbone, first))
        if not channel:
            channel = patch = (first.half.new_empty(len(first.half), 0),)
        return FrozenFeatures(*first, torch.cat(channel, 1), torch.cat(patch, 1))

    def features(self, frozen: Tensors) -> Tensors:
        """Compute channel and patch feature, (B, D) each, with all parts."""
        frozen = FrozenFeatures(*frozen)
        channel, patch = self.current_adapters(self.backbone, FirstBlock(frozen.half, frozen.mlp))
        return torch.cat((frozen.channel, channel), 1), torch.cat((frozen.patch, patch), 1)

    def named_features(self, features: Tensors) -> dict[Feature, Tensor]:
        """Return the three features, (B, D) each."""
        channel, patch = features
        return {"channel": channel, "patch": patch, "hybrid": self.fusion(channel, patch)}

    def loss(self, features: Tensors, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the weighted sum of three cross entropies, -InfoNCE, dissimilarity and regularization."""
        s, features = self.settings, self.named_features(features)
        ce_weights = {"channel": s.channel_weight, "patch": s.patch_weight, "hybrid": s.hybrid_weight}
        terms, total = {}, 0.0
        for name, weight in ce_weights.items():
            if weight:
                logits = self.proxies(features[name])
                terms[f"ce_{name}"] = F.cross_entropy(logits, labels - self.first_class)
                total = total + weight * terms[f"ce_{name}"]
        # sampled even if InfoNCE is off, so that variants without it have the same random numbers
        sampled = torch.randperm(self.first_class, device=labels.device)[: self.sampled_prototypes]
        if s.info_nce_weight:
            terms["info_nce"] = self._info_nce(features["hybrid"], labels, sampled)
            term = terms["info_nce"]
            known = torch.where(term.isfinite(), term, 0.0) if s.undefined_terms == "zero" else term
            total = total - s.info_nce_weight * known
        if s.dissimilarity_weight:
            terms["dissimilarity"] = self._dissimilarity(features["channel"], features["patch"])
            total = total + s.dissimilarity_weight * terms["dissimilarity"]
        if s.regularization_weight:
            change = self._regularized() - self.initial_weights
            terms["regularization"] = (change.square() if s.regularization == "l2" else change.abs()).sum()
            total = total + s.regularization_weight * terms["regularization"]
        return total, terms

    @torch.no_grad()
    def end_task(self, task: Task, images: TaskImages) -> None:
        """Update the running mean with the current adapters (not after the last task), then compute the prototypes."""
        if not task.is_last:
            self._consolidate(task)
        self.revisit_task(task, images)

    @torch.no_grad()
    def revisit_task(self, task: Task, images: TaskImages) -> None:
        """Compute the prototypes of the classes of `task`: their class means."""
        features = ((self.fusion(*self.extract_features(batch)), labels) for batch, labels in images.eval_batches())
        self.prototypes[task.first_class : task.classes_learned] = class_means(features, task)

    def training_logits(self, features: Tensors) -> Tensor:
        """Compute the proxies' logits (B, classes of the task) for the hybrid feature."""
        return self.proxies(self.fusion(*features))

    def scores_from_features(self, features: Tensors) -> Tensor:
        """Compute the scores (B, classes learned) for the feature that is set for inference."""
        return self.compare(self.named_features(features)[self.settings.inference_feature])

    def compare(self, feature: Tensor) -> Tensor:
        """Compute the weighted cosines (B, classes learned) of the parts of a feature (B, D) and of the prototypes."""
        return prototype_scores(feature, self.prototypes, tuple(self.settings.feature_parts.values()))

    def _info_nce(self, hybrid: Tensor, labels: Tensor, sampled: Tensor) -> Tensor:
        """Compute InfoNCE of the batch together with the earlier prototypes of the classes `sampled`."""
        rows = torch.cat((hybrid, self.prototypes[sampled]))
        return info_nce(rows, torch.cat((labels, sampled)), self.settings.info_nce_temperature)

    def _dissimilarity(self, channel: Tensor, patch: Tensor) -> Tensor:
        """Compute the dissimilarity from the components of both features outside the span of earlier prototypes."""
        channel, patch = F.normalize(channel, dim=1), F.normalize(patch, dim=1)
        if self.settings.dissimilarity == "sum":
            return ((channel + patch) @ self.remainder).sum()
        return sum((rows - rows @ self.basis @ self.basis.T).square().sum() for rows in (channel, patch))

    def _consolidate(self, task: Task) -> None:
        """previous <- kept * previous + added * current. For the mean over tasks, 1 / (t + 1) is added at task index t.

        The initial values of the previous adapters have no influence.
        """
        if self.previous_adapters is None:
            return
        decay = self.settings.previous_adapters_decay if task.index else 0.0
        share = 1 / (task.index + 1)
        parts = {"mean": (task.index * share, share), "last": (0.0, 1.0), "decay": (decay, 1 - decay)}
        kept, added = parts[self.settings.previous_adapters]
        for previous, current in zip(
            self.previous_adapters.parameters(), self.current_adapters.parameters(), strict=True
        ):
            previous.mul_(kept).add_(current, alpha=added)

    def _regularized(self) -> Tensor:
        """Concatenate the weights (no biases) of both subnetworks and of query, key and value."""
        named = [*self.current_adapters.named_parameters(), *self.fusion.named_parameters()]
        return torch.cat([parameter.flatten() for name, parameter in named if name.endswith("weight")])


LEARNER = NTKCL
