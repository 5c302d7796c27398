"""CODA-Prompt, "COntinual Decomposed Attention-based Prompting" (Smith et al., CVPR 2023, arXiv 2211.13218)."""

from itertools import product
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from ntkcl.backbones.vit_blocks import Prefix, check_blocks, class_feature, embed, through_blocks
from ntkcl.devices.compute import autocast
from ntkcl.errors import UserError
from ntkcl.methods.learner import Learner, Tensors
from ntkcl.peft.heads import GrowingLinear
from ntkcl.settings.models import Block, Count, Model, NotNegative, Training
from ntkcl.tasks import Task, TaskImages

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer

SMALLEST_NORM = 1e-12


class CODAPrompt(Learner):
    """An image's prefix in a block is a weighted sum of components P_i; each task adds components and trains only them.

    The weight of a component is the cosine of q * A_i and its key K_i, where q is the image's query, the plain feature.
    """

    class Settings(Model):
        """Settings of the components. The defaults are the released ones for CIFAR-100 and ImageNet-R."""

        pool_size: Count = Field(100, description="components of a block, of all tasks together")
        prompt_length: Count = Field(8, description="keys and values of a prefix together")
        blocks: tuple[Block, ...] = Field((0, 1, 2, 3, 4), description="blocks with a prefix")
        orthogonality_weight: NotNegative = Field(0.0, description="weight of the penalty on dependent components")
        orthogonalized: Literal["each_task", "once"] = Field(
            "each_task",
            description="each_task: new components are drawn when their task begins, orthogonal to all before; once: "
            "those of all tasks before the first, as described",
        )
        tasks: Count | None = Field(
            None, description="tasks that divide the pool; by default those of the stream, which must be known"
        )

        @model_validator(mode="after")
        def _is_even(self) -> "CODAPrompt.Settings":
            if self.prompt_length % 2:
                raise ValueError(f"prompt_length = {self.prompt_length} is odd; half of it are keys, half values")
            return self

    def __init__(self, backbone: "VisionTransformer", settings: Settings) -> None:
        super().__init__(backbone, settings)
        check_blocks(backbone, settings.blocks)
        self.keys, self.attention, self.prompts = (nn.ParameterList() for _ in range(3))
        self.head = GrowingLinear(backbone.embed_dim)
        self.tasks_learned = 0

    def add_task(self, task: Task) -> None:
        """Add components, zero until they are drawn, and rows of the head for all planned classes."""
        super().add_task(task)
        s, dim = self.settings, self.backbone.embed_dim
        tasks = s.tasks or task.stream_tasks
        if not tasks:
            raise UserError("coda_prompt divides its pool among all tasks; give their number, the setting tasks")
        if task.index >= tasks or s.pool_size < tasks:
            raise UserError(f"coda_prompt has {s.pool_size} components for {tasks} tasks; raise tasks or pool_size")
        self.tasks_learned, rows = task.index + 1, s.pool_size // tasks
        for parts, shape in ((self.keys, ()), (self.attention, ()), (self.prompts, (s.prompt_length,))):
            while len(parts) < (tasks if s.orthogonalized == "once" else self.tasks_learned):
                parts.append(nn.Parameter(torch.zeros(len(s.blocks), rows, *shape, dim).to(self.head.weight)))
            parts.requires_grad_(False)[task.index].requires_grad_(True)
        self.head.grow_to(task.planned_classes)

    @torch.no_grad()
    def begin_task(self, task: Task, images: TaskImages, training: Training) -> None:
        """Draw new components, each nearly orthogonal to all before."""
        if task.index and self.settings.orthogonalized == "once":
            return
        for layer in range(len(self.settings.blocks)):
            for name in ("keys", "attention", "prompts"):
                parts = [each[layer] for each in getattr(self, name)]
                old, new = parts[: task.index], parts[task.index :]
                normals = self.normals(name, layer, torch.cat(new).flatten(1).shape)
                drawn = _orthogonal_rows([row.flatten() for each in old for row in each], normals)
                for part, rows in zip(new, drawn.chunk(len(new)), strict=True):
                    part.copy_(rows.view_as(part))

    def normals(self, name: str, layer: int, shape: torch.Size) -> Tensor:
        """Draw what the new components of a block are made from: (components, width), standard normal."""
        return torch.randn(shape).to(self.head.weight)

    @torch.no_grad()
    def backbone_forward(self, images: Tensor) -> Tensors:
        """Compute the input tokens (B, N, d) of the first block and the query (B, d)."""
        tokens = embed(self.backbone, images)
        return tokens, class_feature(self.backbone, through_blocks(self.backbone, tokens))

    def features(self, frozen: Tensors) -> Tensors:
        """Compute the feature (B, d)."""
        tokens, query = frozen
        prefixes = {index: self._prefix(layer, query) for layer, index in enumerate(self.settings.blocks)}
        return (class_feature(self.backbone, through_blocks(self.backbone, tokens, prefixes=prefixes)),)

    def loss(self, features: Tensors, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the cross entropy among the task's classes, plus the penalty on dependent components."""
        cross_entropy = F.cross_entropy(self.training_logits(features), labels - self.first_class)
        penalty = cross_entropy.new_zeros(())
        if self.settings.orthogonality_weight:
            penalty = self._penalty()
        total = cross_entropy + self.settings.orthogonality_weight * penalty
        return total, {"cross_entropy": cross_entropy, "orthogonality": penalty}

    def scores_from_features(self, features: Tensors) -> Tensor:
        """Compute the logits (B, classes learned)."""
        return self.head(*features)[:, : self.classes_learned]

    def weights(self, layer: int, query: Tensor) -> Tensor:
        """The weights (B, components) of all components of a block: cos(q * A_i, K_i)."""
        with autocast(query.device, False):
            keys, attention = (self._components(parts, layer) for parts in (self.keys, self.attention))
            length = (query.square() @ attention.square().T).clamp_min(SMALLEST_NORM**2).sqrt()  # of q * A_i
            return query @ (attention * keys).T / (length * keys.norm(dim=1).clamp_min(SMALLEST_NORM))

    def _components(self, parts: nn.ParameterList, layer: int) -> Tensor:
        """Those of a block, of the tasks learned: (components, ...)."""
        return torch.cat([each[layer] for each in list(parts)[: self.tasks_learned]])

    def _prefix(self, layer: int, query: Tensor) -> Prefix:
        with autocast(query.device, False):
            mixed = torch.tensordot(self.weights(layer, query), self._components(self.prompts, layer), 1)
        return Prefix(*mixed.chunk(2, 1))

    def _penalty(self) -> Tensor:
        """Sum over blocks, and over K, A and P, of the mean over entries of (B B^T - I)^2."""
        total = 0.0
        for layer, parts in product(range(len(self.settings.blocks)), (self.keys, self.attention, self.prompts)):
            rows = self._components(parts, layer).flatten(1)
            total = total + (rows @ rows.T - torch.eye(len(rows)).to(rows)).square().mean()
        return total


def _orthogonal_rows(old: list[Tensor], normals: Tensor) -> Tensor:
    """Rows of unit length: each normal minus its projections on every row before, as they are (Gram-Schmidt).

    Old rows were trained, so they are not orthogonal to each other. New rows get their length at the end.
    """
    rows = [row for row in old if row.any()]
    for normal in normals:
        before = torch.stack(rows) if rows else normal.new_zeros(0, len(normal))
        shares = before @ normal / before.square().sum(1)
        rows.append(normal - shares @ before)
    return F.normalize(torch.stack(rows[-len(normals) :]), dim=1)


LEARNER = CODAPrompt
