"""DualPrompt, "Complementary Prompting for Rehearsal-free Continual Learning" (Wang et al., ECCV 2022, 2204.04799)."""

from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ntkcl.backbones.vit_blocks import Prefix, check_blocks, class_feature, embed, through_blocks
from ntkcl.methods.learner import Learner, Tensors
from ntkcl.peft.heads import GrowingLinear
from ntkcl.peft.prompt_pool import cosines, most_voted
from ntkcl.settings.models import Block, Count, Model, NotNegative, Training
from ntkcl.tasks import Task, TaskImages

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer


class DualPrompt(Learner):
    """General prefixes in some blocks, and in others expert prefixes, of which each task trains its own row.

    An image is predicted with the row whose key is nearest to its query, the plain feature. General prefixes and head
    are trained in every task.
    """

    class Settings(Model):
        """Settings of the prefixes. The defaults are the released ones for CIFAR-100."""

        pool_size: Count = Field(10, description="rows of expert prefixes, one a task; later tasks take the nearest")
        general_length: Count = Field(5, description="keys, and values, of a general prefix")
        expert_length: Count = Field(5, description="keys, and values, of an expert prefix")
        general_blocks: tuple[Block, ...] = Field((0, 1), description="blocks with a general prefix")
        expert_blocks: tuple[Block, ...] = Field((2, 3, 4), description="blocks with an expert prefix")
        key_weight: NotNegative = Field(1.0, description="weight of the similarity of queries and the task's key")
        search: Literal["learned", "pool"] = Field(
            "learned", description="rows that predictions choose from: of the tasks learned, or all, as released"
        )
        batch_vote: bool = Field(False, description="predict a batch with the row that most of its images choose")
        mixed: bool = Field(
            False,
            description="mix expert keys and values of the images of a batch, as the PyTorch port does by mistake",
        )

    def __init__(self, backbone: "VisionTransformer", settings: Settings) -> None:
        super().__init__(backbone, settings)
        s, dim = settings, backbone.embed_dim
        check_blocks(backbone, (*s.general_blocks, *s.expert_blocks))
        self.general = nn.Parameter(torch.empty(len(s.general_blocks), 2, s.general_length, dim).uniform_(-1, 1))
        self.expert = nn.Parameter(
            torch.empty(len(s.expert_blocks), 2, s.pool_size, s.expert_length, dim).uniform_(-1, 1)
        )
        self.keys = nn.Parameter(torch.empty(s.pool_size, dim).uniform_(-1, 1))
        self.head = GrowingLinear(dim, std=0.02)
        self.row = -1  # of the present task

    def add_task(self, task: Task) -> None:
        """Add rows of the head: at the first task for all planned classes, as released."""
        super().add_task(task)
        self.row = task.index
        self.head.grow_to(task.planned_classes)

    @torch.no_grad()
    def begin_task(self, task: Task, images: TaskImages, training: Training) -> None:
        """Start the task's expert prefixes from those of the task before; its key is not copied."""
        if 0 < self.row < self.settings.pool_size:
            self.expert[:, :, self.row] = self.expert[:, :, self.row - 1]

    @torch.no_grad()
    def backbone_forward(self, images: Tensor) -> Tensors:
        """Compute the input tokens (B, N, d) of the first block and the query (B, d)."""
        tokens = embed(self.backbone, images)
        return tokens, class_feature(self.backbone, through_blocks(self.backbone, tokens))

    def features(self, frozen: Tensors) -> Tensors:
        """Compute the feature (B, d) with each image's nearest row, and the similarity (B,) of query and its key."""
        return self._with_rows(frozen, self.choose(frozen[1]))

    def training_features(self, frozen: Tensors, drawn: Tensors) -> Tensors:
        """Compute the same with the task's row for all images."""
        if self.row >= self.settings.pool_size:
            return self.features(frozen)
        return self._with_rows(frozen, torch.full((len(frozen[1]),), self.row, device=frozen[1].device))

    @property
    def needs_whole_batch(self) -> bool:
        """Whether the images of a batch may vote in training, which they do after the last row of the pool."""
        return self.settings.batch_vote

    def choose(self, queries: Tensor) -> Tensor:
        """The rows (B,) whose keys are nearest to queries (B, d)."""
        known = self.settings.pool_size if self.settings.search == "pool" else min(self.row + 1, len(self.keys))
        rows = cosines(queries, self.keys[:known]).argmax(1)
        return most_voted(rows[:, None], known).expand(len(rows)) if self.settings.batch_vote else rows

    def loss(self, features: Tensors, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the cross entropy among the task's classes, minus the weighted similarity."""
        cross_entropy = F.cross_entropy(self.training_logits(features), labels - self.first_class)
        similarity = features[1].mean()
        total = cross_entropy - self.settings.key_weight * similarity
        return total, {"cross_entropy": cross_entropy, "key_similarity": similarity}

    def scores_from_features(self, features: Tensors) -> Tensor:
        """Compute the logits (B, classes learned)."""
        return self.head(features[0])[:, : self.classes_learned]

    def _with_rows(self, frozen: Tensors, rows: Tensor) -> Tensors:
        tokens, query = frozen
        prefixes = {index: self._expert(layer, rows) for layer, index in enumerate(self.settings.expert_blocks)}
        for layer, index in enumerate(self.settings.general_blocks):  # of a block with both, the general one counts
            prefixes[index] = Prefix(*(part[None] for part in self.general[layer]))
        feature = class_feature(self.backbone, through_blocks(self.backbone, tokens, prefixes=prefixes))
        similarity = cosines(query, self.keys).gather(1, rows[:, None])[:, 0]
        return feature, similarity

    def _expert(self, layer: int, rows: Tensor) -> Prefix:
        """The expert prefix of a block for each image, (B, length, d)."""
        key, value = self.expert[layer][:, rows]
        if not self.settings.mixed:
            return Prefix(key, value)
        both = torch.cat((key, value))  # of which image b gets the entries 2b and 2b + 1
        return Prefix(both[0::2], both[1::2])


LEARNER = DualPrompt
