"""InfLoRA, "Interference-Free Low-Rank Adaptation for Continual Learning" (Liang & Li, CVPR 2024)."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ntkcl.backbones.vit_blocks import attention_residual, class_feature, embed, feature_rows, mlp_branch
from ntkcl.devices import distributed
from ntkcl.methods.learner import Learner, Tensors
from ntkcl.peft.activation_space import ActivationSpace, check_free_directions
from ntkcl.settings.models import Count, Model, Positive, Share, Training
from ntkcl.tasks import Task, TaskImages

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer

STATISTICS_BATCH = 128  # images


class InfLoRA(Learner):
    """Each task adds a branch B A to the key and value weights of every block, and trains B alone.

    A is computed before: its rows are directions of the task's inputs with nothing of earlier tasks' inputs, so that B
    cannot change what these inputs become.
    """

    for_next_task = ("spaces",)

    class Settings(Model):
        """Settings of branches and spaces of old inputs. The defaults are the released ones for CIFAR-100."""

        rank: Count = Field(10, description="rows of A")
        first_share: Share = Field(0.95, description="share of the first task's inputs that the space of old ones has")
        last_share: Share = Field(
            1.0, description="the share that would come after the planned tasks; between, it grows evenly"
        )
        memory: Literal["dual", "old"] = Field(
            "dual",
            description="what is kept of the inputs; dual: the space of old ones, or that orthogonal to it if smaller; "
            "old: always the former, as released for DomainNet",
        )
        projection: Literal["left", "both"] = Field(
            "left",
            description="A has left singular vectors of (I - P) C (left), or of (I - P) C (I - P), those of the "
            "projected inputs (both)",
        )
        head_lr_factor: Positive = Field(1.0, description="factor of the learning rate of the heads")

    def __init__(self, backbone: "VisionTransformer", settings: Settings) -> None:
        super().__init__(backbone, settings)
        depth, dim = len(backbone.blocks), backbone.embed_dim
        for name, shape in {"down": (0, dim), "old_key": (dim, 0), "old_value": (dim, 0)}.items():
            self.register_buffer(name, torch.zeros(depth, *shape))
        self.key, self.value = (nn.Parameter(torch.zeros(depth, dim, settings.rank)) for _ in range(2))
        self.heads = nn.ModuleList()
        self.spaces = nn.ModuleList(ActivationSpace(dim, settings.memory == "dual") for _ in range(depth))

    def add_task(self, task: Task) -> None:
        """Add a branch and a head; the earlier ones are not trained any more."""
        super().add_task(task)
        rank = self.settings.rank
        if task.index:
            self.old_key = torch.cat((self.old_key, self.key.detach()), 2)
            self.old_value = torch.cat((self.old_value, self.value.detach()), 2)
        for parameter in (self.key, self.value):
            parameter.data = torch.zeros_like(parameter)
        self.down = F.pad(self.down, (0, 0, 0, rank))
        self.heads.requires_grad_(False)
        self.heads.append(nn.Linear(self.backbone.embed_dim, task.size).to(self.down))

    @torch.no_grad()
    def begin_task(self, task: Task, images: TaskImages, training: Training) -> None:
        """Compute A from the task's inputs, in one pass over the images with the training view."""
        rank = self.settings.rank
        check_free_directions(self.spaces, rank)
        for index, (space, covariance) in enumerate(zip(self.spaces, self.covariances(images), strict=True)):
            projected = space.without_old(covariance)
            if self.settings.projection == "both":
                projected = space.without_old(projected.T)
            directions = torch.linalg.svd(projected)[0][:, :rank]
            self.down[index, -rank:] = directions.T / math.sqrt(3)  # the rows' norm in a usual draw of A

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Branches and heads, each with its learning rate."""
        heads = list(self.heads[-1].parameters())
        return [{"params": [self.key, self.value]}, {"params": heads, "lr_factor": self.settings.head_lr_factor}]

    @torch.no_grad()
    def backbone_forward(self, images: Tensor) -> Tensors:
        """Compute the input tokens (B, N, d) of the first block."""
        return (embed(self.backbone, images),)

    def features(self, frozen: Tensors) -> Tensors:
        """Compute the feature (B, d)."""
        vit, tokens = self.backbone, frozen[0]
        for index in range(len(vit.blocks)):
            half = attention_residual(vit, index, tokens, feature_rows(vit, index), key_value=self._key_value(index))
            tokens = half + mlp_branch(vit, index, half)
        return (class_feature(vit, tokens),)

    def _key_value(self, index: int) -> Callable[[Tensor], Tensor]:
        """What computes keys and values of block `index` with the branches of all tasks.

        Branches that are not trained are merged into the weights, unless these are bfloat16, which would round them.
        """
        qkv = self.backbone.blocks[index].attn.qkv
        weight, bias = qkv.weight[-2 * self.backbone.embed_dim :], qkv.bias
        down, trained = self.down[index], torch.cat((self.key[index], self.value[index]))
        old = torch.cat((self.old_key[index], self.old_value[index]))
        if weight.dtype == torch.bfloat16:
            up, apart = torch.cat((old, trained), 1), down
        elif torch.is_grad_enabled():
            weight, up, apart = weight + old @ down[: old.shape[1]], trained, down[old.shape[1] :]
        else:
            weight, apart = weight + torch.cat((old, trained), 1) @ down, None

        def key_value(normed: Tensor) -> Tensor:
            both = F.linear(normed, weight, None if bias is None else bias[-len(weight) :])
            if apart is None:
                return both
            return both + F.linear(F.linear(normed, apart), up)

        return key_value

    def loss(self, features: Tensors, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the cross entropy of the task's head."""
        loss = F.cross_entropy(self.training_logits(features), labels - self.first_class)
        return loss, {"cross_entropy": loss}

    @torch.no_grad()
    def end_task(self, task: Task, images: TaskImages) -> None:
        """Add the task's inputs to the spaces of old ones, in another pass over the images."""
        s = self.settings
        share = s.first_share + (s.last_share - s.first_share) * task.index / (task.stream_tasks or math.inf)
        for space, covariance in zip(self.spaces, self.covariances(images), strict=True):
            space.add(covariance, share, task.index == 0)

    @torch.no_grad()
    def covariances(self, images: TaskImages) -> Tensor:
        """For each block, the mean (d, d) of x x^T over images and tokens, of the inputs x of attention."""
        vit = self.backbone
        total = torch.zeros(len(vit.blocks) + 1, vit.embed_dim, vit.embed_dim).to(self.down)  # the last has the count
        for batch, _ in images.train_batches(STATISTICS_BATCH):
            with self.autocast():
                (tokens,) = self.frozen_forward(batch)
                for index, block in enumerate(vit.blocks):
                    rows = block.norm1(tokens).to(total).flatten(0, 1)
                    with torch.autocast(rows.device.type, enabled=False):
                        total[index] += rows.T @ rows
                    half = attention_residual(vit, index, tokens, key_value=self._key_value(index))
                    tokens = half + mlp_branch(vit, index, half)
            total[-1] += len(rows)
        distributed.all_reduce_sum(total)
        return total[:-1] / total[-1]

    def scores_from_features(self, features: Tensors) -> Tensor:
        """Compute the logits (B, classes learned) of all heads."""
        return torch.cat([head(*features) for head in self.heads], 1)


LEARNER = InfLoRA
