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
    """What a task's training does not change.

    Args:
        half: (B, N, d), see `FirstBlock`.
        mlp: (B, N, d), see `FirstBlock`.
        channel: (B, D - d), all parts of the channel feature but the current one.
        patch: (B, D - d), all parts of the patch feature but the current one.
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
        """Channel and patch feature, (B, d) each."""
        return self.channel.feature(vit, first), self.patch.feature(vit, first)


class NTKCL(Learner):
    """A feature has the parts [pre-trained if chosen, previous if kept, current], each d wide."""

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
        """As for every learner; dropout in the previous adapters is a setting of its own."""
        super().train(mode)
        if self.previous_adapters is not None:
            self.previous_adapters.train(mode and self.settings.previous_adapters_dropout)
        return self

    def add_task(self, task: Task) -> None:
        """Fresh proxies for the task's classes, and room for their prototypes."""
        super().add_task(task)
        fresh = CosineClassifier(self.dim, task.size, self.settings.proxy_scale)
        self.proxies = fresh.to(self.prototypes)
        self.prototypes = torch.cat((self.prototypes, self.prototypes.new_zeros(task.size, self.dim)))

    @torch.no_grad()
    def begin_task(self, task: Task, images: TaskImages, training: Training) -> None:
        """What stays fixed during a task: the values to stay close to, and the space to be dissimilar from."""
        self.sampled_prototypes = training.batch_size
        self.initial_weights = self._regularized()
        self.basis = leading_directions(self.prototypes[: self.first_class], self.settings.dissimilarity_basis)
        ones = self.prototypes.new_ones(self.dim)
        self.remainder = ones - self.basis @ (self.basis.T @ ones)

    @torch.no_grad()
    def frozen_forward(self, images: Tensor) -> FrozenFeatures:
        """The first block, and all parts but the current one of the channel and of the patch feature."""
        first, parts = first_block(self.backbone, images), []
        if self.settings.pretrained_part:
            plain = plain_feature(self.backbone, first)
            parts.append((plain, plain))
        if self.previous_adapters is not None:
            parts.append(self.previous_adapters(self.backbone, first))
        if not parts:
            empty = first.half.new_empty(len(images), 0)
            parts.append((empty, empty))
        return FrozenFeatures(*first, *(torch.cat(part, 1) for part in zip(*parts, strict=True)))

    def features(self, frozen: Tensors) -> Tensors:
        """Channel and patch feature, (B, D) each, with all parts."""
        frozen = FrozenFeatures(*frozen)
        channel, patch = self.current_adapters(self.backbone, FirstBlock(frozen.half, frozen.mlp))
        return torch.cat((frozen.channel, channel), 1), torch.cat((frozen.patch, patch), 1)

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
        drawn = torch.randperm(self.first_class, device=labels.device)[
            : self.sampled_prototypes
        ]  # also where it is not used
        if s.info_nce_weight:
            terms["info_nce"] = self._info_nce(features["hybrid"], labels, drawn)
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
        """The running mean takes in the current copy (not after the last task); then the class means are taken."""
        if not task.is_last:
            self._consolidate(task)
        self.revisit_task(task, images)

    @torch.no_grad()
    def revisit_task(self, task: Task, images: TaskImages) -> None:
        """The class means become the prototypes of the classes of `task`."""
        features = ((self.fusion(*self.extract_features(batch)), labels) for batch, labels in images.eval_batches())
        self.prototypes[task.first_class : task.classes_seen] = class_means(features, task)

    def training_logits(self, features: Tensors) -> Tensor:
        """The proxies' logits (B, classes of the task) of the hybrid feature."""
        return self.proxies(self.fusion(*features))

    def scores_from_features(self, features: Tensors) -> Tensor:
        """As `compare`, of the feature that inference is told to take."""
        return self.compare(self.named_features(features)[self.settings.inference_feature])

    def compare(self, feature: Tensor) -> Tensor:
        """Weighted cosines (B, classes seen) of the sections of a feature (B, D) and of the prototypes."""
        return prototype_scores(feature, self.prototypes, tuple(self.settings.feature_parts.values()))

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
        if self.previous_adapters is None:
            return
        decay = self.settings.previous_adapters_decay if task.index else 0.0
        share = 1 / (task.index + 1)
        parts = {"mean": (task.index * share, share), "last": (0.0, 1.0), "decay": (decay, 1 - decay)}
        kept, taken = parts[self.settings.previous_adapters]
        for previous, current in zip(
            self.previous_adapters.parameters(), self.current_adapters.parameters(), strict=True
        ):
            previous.mul_(kept).add_(current, alpha=taken)

    def _regularized(self) -> Tensor:
        """The weights (no biases) of both subnetworks and of query, key and value, in one vector."""
        named = [*self.current_adapters.named_parameters(), *self.fusion.named_parameters()]
        return torch.cat([parameter.flatten() for name, parameter in named if name.endswith("weight")])


LEARNER = NTKCL
