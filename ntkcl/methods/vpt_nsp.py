"""VPT-NSP, "Visual Prompt Tuning in Null Space for Continual Learning" (Lu et al., NeurIPS 2024, arXiv 2406.05658)."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ntkcl.backbones.vit_blocks import attention_residual, class_feature, embed, mlp_branch, through_blocks
from ntkcl.devices import distributed
from ntkcl.devices.compute import autocast
from ntkcl.methods.learner import Learner, Tensors
from ntkcl.peft.null_space import null_space_map
from ntkcl.peft.token_prefix import linear_part, token_prefix
from ntkcl.settings.models import Count, Model, NotNegative, Positive, Share
from ntkcl.tasks import Batches, Task, TaskImages

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer


class VPTNSP(Learner):
    """Prompts of all blocks are shared by the tasks, and change only where attention to old images hardly does.

    The optimizer's finished update of a block's prompts P is projected: P + B2 dP B1. The maps B1 and B2 come from the
    null spaces of two covariances of old images: of queries times the key weights, and of the attention to the prompts.
    """

    for_next_task = ("feature_covariances", "token_covariances")

    class Settings(Model):
        """Settings of the prompts and their maps. The defaults are the released ones for CIFAR-100."""

        prompts: Count = Field(4, description="prompt tokens of a block")
        temperature: Positive = Field(28.0, description="what logits are divided by in training")
        feature_share: Share = Field(0.97, description="share of the projection in the map B1 of features")
        token_share: Share = Field(0.97, description="share of the projection in the map B2 of prompt tokens")
        statistics_weight: NotNegative = Field(
            1.0, description="weight of the loss on the change of the prompts' mean and standard deviation"
        )
        statistics_batch: Count | None = Field(
            None, description="images whose mean counts once in the covariances, as released; none: each image counts"
        )
        reuse_first_head: bool = Field(
            False, description="second task starts from the head of the first if it has as many classes, as released"
        )

    def __init__(self, backbone: "VisionTransformer", settings: Settings) -> None:
        super().__init__(backbone, settings)
        depth, dim, count = len(backbone.blocks), backbone.embed_dim, settings.prompts
        self.prompts = nn.Parameter(torch.empty(depth, count, dim).uniform_(-1, 1))
        self.heads = nn.ModuleList()
        self.register_buffer("feature_covariances", torch.zeros(depth, dim, dim))
        self.register_buffer("token_covariances", torch.zeros(depth, count, count))

    def add_task(self, task: Task) -> None:
        """Add a head for the task's classes; the earlier ones are not trained any more."""
        super().add_task(task)
        self.heads.requires_grad_(False)
        head = nn.Linear(self.backbone.embed_dim, task.size).to(self.prompts)
        if task.index == 0:
            nn.init.trunc_normal_(head.weight, std=0.02)
            nn.init.zeros_(head.bias)
        elif task.index == 1 and self.settings.reuse_first_head and len(self.heads[0].bias) == task.size:
            head.load_state_dict(self.heads[0].state_dict())
        self.heads.append(head)

    @torch.no_grad()
    def begin_task(self, task: Task, images: TaskImages, training: object) -> None:
        """Compute the maps of the updates, and keep the prompts of the task before."""
        self.previous = self.prompts.detach().clone()
        self.maps = self.maps_of_updates() if task.index else ()

    def maps_of_updates(self) -> tuple[Tensor, Tensor]:
        """B1 (blocks, d, d) and B2 (blocks, n, n), from the covariances of all tasks so far."""
        s = self.settings
        both = ((self.feature_covariances, s.feature_share), (self.token_covariances, s.token_share))
        return tuple(torch.stack([null_space_map(each, share)[0] for each in all_]) for all_, share in both)

    def update_maps(self) -> dict[nn.Parameter, Callable[[Tensor], Tensor]]:
        """Project the update of the prompts, from the second task on."""
        if not self.maps:
            return {}
        of_features, of_tokens = self.maps
        return {self.prompts: lambda update: of_tokens @ update @ of_features}

    @torch.no_grad()
    def backbone_forward(self, images: Tensor) -> Tensors:
        """Compute the input tokens (B, N, d) of the first block."""
        return (embed(self.backbone, images),)

    def features(self, frozen: Tensors) -> Tensors:
        """Compute the feature (B, d)."""
        prefixes = {i: token_prefix(self.backbone, i, self.prompts[i]) for i in range(len(self.prompts))}
        return (class_feature(self.backbone, through_blocks(self.backbone, *frozen, prefixes=prefixes)),)

    def loss(self, features: Tensors, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the cross entropy of the task's head, plus the change of the prompts' mean and standard deviation."""
        logits = self.training_logits(features) / self.settings.temperature
        cross_entropy = F.cross_entropy(logits, labels - self.first_class)
        mean = std = cross_entropy.new_zeros(())
        if self.maps:
            mean = (self.prompts.mean(2) - self.previous.mean(2)).abs().mean(1).sum()
            std = (self.prompts.std(2, correction=0) - self.previous.std(2, correction=0)).abs().mean(1).sum()
        total = cross_entropy + self.settings.statistics_weight * (mean + std)
        return total, {"cross_entropy": cross_entropy, "prompt_mean": mean, "prompt_std": std}

    @torch.no_grad()
    def end_task(self, task: Task, images: TaskImages) -> None:
        """Add the task's images to the covariances, unless no task follows."""
        if task.is_last:
            return
        added = [torch.zeros_like(self.feature_covariances), torch.zeros_like(self.token_covariances)]
        for batch in _batches(images.eval_batches(), self.settings.statistics_batch):
            weight = 1.0 if self.settings.statistics_batch else len(batch)
            for index, covariances in enumerate(self._covariances(batch)):
                for total, covariance in zip(added, covariances, strict=True):
                    total[index] += weight * covariance
        self.feature_covariances += distributed.all_reduce_sum(added[0])
        self.token_covariances += distributed.all_reduce_sum(added[1])

    def scores_from_features(self, features: Tensors) -> Tensor:
        """Compute the logits (B, classes learned) of all heads."""
        return torch.cat([head(*features) for head in self.heads], 1)

    def _covariances(self, images: Tensor) -> list[tuple[Tensor, Tensor]]:
        """For each block, the mean over images, heads and tokens of a a^T and s s^T, (d, d) and (n, n).

        a is a head's query times its rows of the key weight. s is the head's attention to the prompts.
        """
        vit, found = self.backbone, []
        with self.autocast():
            (tokens,) = self.frozen_forward(images)
        for index, block in enumerate(vit.blocks):
            with self.autocast():
                prefix = token_prefix(vit, index, self.prompts[index])
                normed, attention = block.norm1(tokens), block.attn
                by_head = (attention.num_heads, -1)
                query, key = (linear_part(attention.qkv, normed, part).unflatten(2, by_head) for part in (0, 1))
                query, key = attention.q_norm(query).transpose(1, 2), attention.k_norm(key).transpose(1, 2)
                half = attention_residual(vit, index, tokens, prefix=prefix)
                tokens = half + mlp_branch(vit, index, half)
            prompt_key = prefix.key.unflatten(2, by_head).transpose(1, 2)
            found.append(_block_covariances(attention, *(x.to(self.prompts) for x in (query, key, prompt_key))))
        return found


def _block_covariances(attention: nn.Module, query: Tensor, key: Tensor, prompt_key: Tensor) -> tuple[Tensor, Tensor]:
    """The two covariances of a block, from queries and keys (B, heads, N, width); prompts have n keys."""
    with autocast(query.device, False):
        weight = attention.qkv.weight.to(query).chunk(3)[1].unflatten(0, (attention.num_heads, -1))
        rows = query.shape[:3].numel()
        feature = (weight.transpose(1, 2) @ torch.einsum("bhnc,bhnd->hcd", query, query) @ weight).sum(0)
        scaled = query * query.shape[3] ** -0.5
        both = (scaled @ each.transpose(2, 3) for each in (prompt_key, key))
        attended = torch.cat(tuple(both), 3).softmax(3)[..., : prompt_key.shape[2]].flatten(0, 2)
        return feature / rows, attended.T @ attended / rows


def _batches(batches: Batches, size: int | None) -> Batches:
    """The images of `batches`, in batches of `size` if it is given."""
    if size is None:
        yield from (images for images, _ in batches if len(images))
        return
    waiting = []
    for images, _ in batches:
        waiting += images.split(1)
        while len(waiting) >= size:
            yield torch.cat(waiting[:size])
            del waiting[:size]
    if waiting:
        yield torch.cat(waiting)


LEARNER = VPTNSP
