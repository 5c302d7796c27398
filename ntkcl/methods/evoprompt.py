"""EvoPrompt, "Evolving Parameterized Prompt Memory for Continual Learning" (Kurniawan et al., AAAI 2024)."""

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ntkcl.backbones.vit_blocks import class_feature, embed, through_blocks
from ntkcl.devices import distributed
from ntkcl.devices.compute import autocast
from ntkcl.errors import UserError
from ntkcl.methods.learner import Learner, Tensors, class_means
from ntkcl.peft.heads import GrowingLinear
from ntkcl.peft.optimal_transport import transport_plan
from ntkcl.settings.models import Count, Model, Positive, Share, Training
from ntkcl.tasks import Task, TaskImages

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer

SMALLEST_RANGE = 1e-9


class EvoPrompt(Learner):
    """Two linear maps in each block, the memory, make an image's prompt tokens from its query: W2 relu(W1 q).

    A task trains the memory of all blocks. After it, the memory is aligned with that before the task, its rows are
    nodes of an optimal transport, and the two are averaged; nodes that the task uses more have more weight.
    """

    class Settings(Model):
        """Settings of the memory. The defaults are the released ones for CIFAR-100 and ImageNet-R."""

        hidden: Count = Field(16, description="hidden nodes of the memory of a block")
        prompt_length: Count = Field(5, description="prompt tokens that join in each block")
        fusion: Share = Field(
            0.5, description="alpha: share of the trained memory in the average; 0 to 2 alpha, by the use of a node"
        )
        align_outputs: bool = Field(
            True, description="align the outputs of the memory as well, which are coordinates of prompt tokens"
        )
        group_width: Count = Field(4, description="coordinates of a group in the first head rows of new classes")
        group_temperature: Positive = Field(0.05, description="of the cosines that mix old classes' head rows")

    def __init__(self, backbone: "VisionTransformer", settings: Settings) -> None:
        super().__init__(backbone, settings)
        depth, dim, s = len(backbone.blocks), backbone.embed_dim, settings
        if dim % s.group_width:
            raise UserError(
                f"evoprompt has groups of {s.group_width} coordinates, and features have {dim}; choose a divisor"
            )
        maps = [(nn.Linear(dim, s.hidden), nn.Linear(s.hidden, s.prompt_length * dim)) for _ in range(depth)]
        self.inner, self.outer = (
            nn.Parameter(torch.stack([each.weight.detach() for each in of_blocks]))
            for of_blocks in zip(*maps, strict=True)
        )
        self.head = GrowingLinear(dim)
        self.register_buffer("class_prototypes", torch.empty(0, dim))
        self.register_buffer("inner_attribution", torch.zeros(depth, s.hidden))
        self.register_buffer("outer_attribution", torch.zeros(depth, s.prompt_length * dim))

    def add_task(self, task: Task) -> None:
        """Add prototypes for the task's classes, and rows of the head for all planned classes."""
        super().add_task(task)
        self.class_prototypes = F.pad(self.class_prototypes, (0, 0, 0, task.size))
        self.head.grow_to(task.planned_classes)

    @torch.no_grad()
    def begin_task(self, task: Task, images: TaskImages, training: Training) -> None:
        """Compute the prototypes and the head's first rows of new classes, and keep the memory of the task before."""
        self.before = self.inner.detach().clone(), self.outer.detach().clone()
        plain = ((self.plain_feature(batch), labels) for batch, labels in images.eval_batches())
        new = self.class_prototypes[task.first_class :] = class_means(plain, task)
        if task.index:
            old = self.class_prototypes[: task.first_class]
            self.head.weight[task.first_class : task.classes_learned] = self.composed_rows(new, old)

    def composed_rows(self, new: Tensor, old: Tensor) -> Tensor:
        """Head rows (new classes, d): in each group of coordinates, a mixture of the rows of classes that are alike.

        Args:
            new: prototypes (new classes, d).
            old: prototypes (old classes, d).
        """
        new, old, rows = (
            each.unflatten(1, (-1, self.settings.group_width)).transpose(0, 1)
            for each in (new, old, self.head.weight[: len(old)])
        )
        cosines = F.normalize(new, dim=2) @ F.normalize(old, dim=2).transpose(1, 2)
        shares = (cosines / self.settings.group_temperature).softmax(2)
        return (shares @ rows).transpose(0, 1).flatten(1)

    @torch.no_grad()
    def backbone_forward(self, images: Tensor) -> Tensors:
        """Compute the input tokens (B, N, d) of the first block and the query (B, d), before the final norm."""
        tokens = embed(self.backbone, images)
        return tokens, through_blocks(self.backbone, tokens)[:, 0].to(self.inner)

    def plain_feature(self, images: Tensor) -> Tensor:
        """The feature (B, d) without prompts: the query after the final norm."""
        with self.autocast():
            return self.backbone.norm(self.frozen_forward(images)[1])

    def nodes(self, query: Tensor) -> Tensors:
        """Hidden nodes (blocks, B, hidden) and outputs (blocks, B, length * d) of the memory for queries (B, d)."""
        with autocast(query.device, False):
            hidden = F.relu(query @ self.inner.transpose(1, 2))
            return hidden, hidden @ self.outer.transpose(1, 2)

    def features(self, frozen: Tensors) -> Tensors:
        """Compute the feature (B, d)."""
        tokens, query = frozen
        _, outputs = self.nodes(query)
        prompts = outputs.unflatten(2, (self.settings.prompt_length, -1))
        return (class_feature(self.backbone, through_blocks(self.backbone, tokens, prompts=dict(enumerate(prompts)))),)

    def loss(self, features: Tensors, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the cross entropy among the task's classes."""
        cross_entropy = F.cross_entropy(self.training_logits(features), labels - self.first_class)
        return cross_entropy, {"cross_entropy": cross_entropy}

    @torch.no_grad()
    def end_task(self, task: Task, images: TaskImages) -> None:
        """Align and average the memory with that before the task, and note which nodes the task used."""
        used, maps = self.activations(images), (self.inner, self.outer)
        attributions = (self.inner_attribution, self.outer_attribution)
        for block in range(len(self.inner)):
            now = [each[block] for each in used]
            if task.index:
                plans, aligned = self.aligned(block)
                now = [plan.T @ each for plan, each in zip(plans, now, strict=True)]
                for index, weights in enumerate(maps):
                    more = _scaled(now[index]) - _scaled(attributions[index][block])
                    share, before = self.settings.fusion * (1 + more), self.before[index][block]
                    weights[block] = before + share[:, None] * (aligned[index] - before)
            for most, each in zip(attributions, now, strict=True):
                most[block] = torch.maximum(most[block], each)

    def activations(self, images: TaskImages) -> Tensors:
        """Means over the task's images of the positive parts of nodes: (blocks, hidden) and (blocks, length * d).

        Of the images that the whole head gets right, classes not learned yet included; if there is none, of all.
        """
        sums, counts = [0.0, 0.0], self.inner.new_zeros(2)
        for batch, labels in images.eval_batches():
            with self.autocast():
                frozen = self.frozen_forward(batch)
                features = self.features(frozen)
            is_right = self.head(*features).argmax(1) == labels
            taken = torch.stack((is_right, torch.ones_like(is_right))).to(self.inner)
            parts = [torch.einsum("tb,lbn->tln", taken, F.relu(nodes)) for nodes in self.nodes(frozen[1])]
            sums, counts = [total + part for total, part in zip(sums, parts, strict=True)], counts + taken.sum(1)
        counts = distributed.all_reduce_sum(counts)
        which = 0 if counts[0] else 1
        return tuple(distributed.all_reduce_sum(total)[which] / counts[which] for total in sums)

    def aligned(self, block: int) -> tuple[Tensors, Tensors]:
        """The transport plans of hidden nodes and outputs of a block, and its two maps aligned by them."""
        inner, outer, (inner_before, outer_before) = self.inner[block], self.outer[block], self.before
        plan = transport_plan(inner, inner_before[block]).to(inner)
        carried = outer @ plan
        outer_plan = torch.eye(len(outer)).to(outer)
        if self.settings.align_outputs:
            outer_plan = transport_plan(carried, outer_before[block], outer).to(outer)
        return (plan, outer_plan), (plan.T @ inner, outer_plan.T @ carried)

    def scores_from_features(self, features: Tensors) -> Tensor:
        """Compute the logits (B, classes learned)."""
        return self.head(*features)[:, : self.classes_learned]


def _scaled(values: Tensor) -> Tensor:
    """Values moved to the range from 0 to 1."""
    return (values - values.min()) / ((values.max() - values.min()) or SMALLEST_RANGE)


LEARNER = EvoPrompt
