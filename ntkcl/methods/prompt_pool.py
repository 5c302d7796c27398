"""The learner of L2P, on which L2P-PGP builds: a pool of prompts from which each image takes its own."""

from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor

from ntkcl.backbones.vit_blocks import class_feature, class_position, embed, through_blocks
from ntkcl.methods.learner import Learner, Tensors
from ntkcl.peft.heads import GrowingLinear
from ntkcl.peft.prompt_pool import PromptPool, most_voted
from ntkcl.settings.models import Count, Model, NotNegative
from ntkcl.tasks import Task

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer


class PromptPoolLearner(Learner):
    """Each image takes the prompts of a pool whose keys are nearest to its query, the plain feature.

    Prompts, keys and head are trained in every task; nothing is frozen between tasks.
    """

    class Settings(Model):
        """Settings of the pool. The defaults are the released ones for CIFAR-100."""

        pool_size: Count = Field(10, description="prompts of the pool")
        prompt_length: Count = Field(5, description="tokens of a prompt")
        top_k: Count = Field(5, description="prompts of an image")
        key_weight: NotNegative = Field(0.1, description="weight of the similarity of queries and chosen keys")
        batch_vote: Literal["never", "training", "always"] = Field(
            "never",
            description="when all images of a batch get the prompts that most of them choose; always: also in "
            "prediction, which then depends on the batch",
        )

        @model_validator(mode="after")
        def _enough_prompts(self) -> "PromptPoolLearner.Settings":
            if self.top_k > self.pool_size:
                raise ValueError(f"top_k = {self.top_k} is more than pool_size = {self.pool_size}; lower it")
            return self

    def __init__(self, backbone: "VisionTransformer", settings: Settings) -> None:
        super().__init__(backbone, settings)
        self.pool = PromptPool(settings.pool_size, settings.prompt_length, backbone.embed_dim)
        self.head = GrowingLinear(backbone.embed_dim, std=0.02)

    def add_task(self, task: Task) -> None:
        """Add rows of the head: at the first task for all planned classes, as released."""
        super().add_task(task)
        self.head.grow_to(task.planned_classes)

    @torch.no_grad()
    def backbone_forward(self, images: Tensor) -> Tensors:
        """Compute the input tokens (B, N, d) of the first block and the query (B, d)."""
        tokens = embed(self.backbone, images)
        return tokens, class_feature(self.backbone, through_blocks(self.backbone, tokens))

    def features(self, frozen: Tensors) -> Tensors:
        """Compute the feature (B, d) and the summed similarity (B,) of query and chosen keys.

        The chosen prompts stand behind the class token, and have its position vector. The feature is the mean of their
        outputs.
        """
        tokens, query = frozen
        similarity = self.pool.similarity(query)
        chosen = self.choose(similarity)
        prompts = self.pool.prompts[chosen].flatten(1, 2) + class_position(self.backbone)
        output = through_blocks(self.backbone, tokens, prompts={0: prompts}, rows=1 + prompts.shape[1])
        return self.backbone.norm(output[:, 1:]).mean(1), similarity.gather(1, chosen).sum(1)

    @property
    def needs_whole_batch(self) -> bool:
        """Whether the images of a batch vote in training."""
        return self.settings.batch_vote in ("always", "training")

    def choose(self, similarity: Tensor) -> Tensor:
        """The prompts (B, top_k) of each image, from the similarity (B, M) of its query and the keys."""
        chosen = similarity.topk(self.settings.top_k, dim=1)[1]
        if self.settings.batch_vote == "always" or (self.settings.batch_vote == "training" and self.training):
            return most_voted(chosen, self.settings.pool_size).expand(len(chosen), -1)
        return chosen

    def loss(self, features: Tensors, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the cross entropy among the task's classes, minus the weighted similarity."""
        cross_entropy = F.cross_entropy(self.training_logits(features), labels - self.first_class)
        similarity = features[1].mean()
        total = cross_entropy - self.settings.key_weight * similarity
        return total, {"cross_entropy": cross_entropy, "key_similarity": similarity}

    def scores_from_features(self, features: Tensors) -> Tensor:
        """Compute the logits (B, classes learned)."""
        return self.head(features[0])[:, : self.classes_learned]
