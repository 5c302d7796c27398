"""L2P-PGP, "Prompt Gradient Projection for Continual Learning" (Qiao et al., ICLR 2024, openreview EH2O3h7sBI)."""

from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field
from torch import Tensor

from ntkcl.devices import distributed
from ntkcl.methods.prompt_pool import PromptPoolLearner
from ntkcl.peft.gradient_memory import GradientMemory, principal_scores
from ntkcl.settings.models import Count, Share, Training
from ntkcl.tasks import Task, TaskImages

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer

MEMORY_BATCH = 64  # images that go through the backbone together


class L2PPGP(PromptPoolLearner):
    """L2P whose gradients of prompts and keys have no part in the span of what earlier tasks look like.

    At the start of a task, images are drawn from it. Principal components of their tokens and of the prompts are added
    to one memory, of their queries to another; both restrict the tasks to come, not this one.
    """

    for_next_task = ("of_prompts", "of_keys")

    class Settings(PromptPoolLearner.Settings):
        """Settings of the pool and of the memories. The defaults are the released ones for CIFAR-100."""

        prompt_components: Count = Field(9, description="principal components of tokens and of prompts")
        key_components: Count = Field(5, description="principal components of queries")
        prompt_threshold: Share = Field(0.5, description="energy that the memory of prompts explains")
        key_threshold: Share = Field(0.97, description="energy that the memory of keys explains")
        space: Literal["features", "images"] = Field(
            "features", description="rows of a representation: features, or images taken for features, as released"
        )

    def __init__(self, backbone: "VisionTransformer", settings: Settings) -> None:
        super().__init__(backbone, settings)
        self.of_prompts = GradientMemory(backbone.embed_dim, settings.prompt_threshold)
        self.of_keys = GradientMemory(backbone.embed_dim, settings.key_threshold)
        self.projectors: tuple[Tensor, Tensor] | None = None  # of earlier tasks

    @torch.no_grad()
    def begin_task(self, task: Task, images: TaskImages, training: Training) -> None:
        """Take the projections of earlier tasks, then add this one to the memories."""
        self.projectors = (self.of_prompts.projector(), self.of_keys.projector()) if task.index else None
        self.representations = self._representations(*self.memory(images), with_prompts=task.index > 0)
        least = 1 if self.settings.space == "features" else 0
        for memory, representation in zip((self.of_prompts, self.of_keys), self.representations, strict=True):
            memory.grow(representation, task.index == 0, least)

    def memory(self, images: TaskImages) -> tuple[Tensor, Tensor]:
        """Draw as many images as the model has features, again and again if there are fewer: tokens and queries."""
        wanted, parts = self.backbone.embed_dim, []
        while sum(len(query) for _, query in parts) < wanted:
            for batch, labels in images.train_batches(MEMORY_BATCH):
                with self.autocast():
                    outputs = batch if isinstance(batch, tuple) else self.backbone_forward(batch)
                parts.append(
                    tuple(distributed.all_gather_rows(each.to(self.head.weight), len(labels)) for each in outputs)
                )
                if sum(len(query) for _, query in parts) >= wanted:
                    break
        return tuple(torch.cat(each)[:wanted] for each in zip(*parts, strict=True))

    def change_gradients(self) -> None:
        """Remove the parts of the gradients in the spans of earlier tasks: g - g F."""
        if self.projectors is not None:
            for parameter, projector in zip((self.pool.prompts, self.pool.keys), self.projectors, strict=True):
                parameter.grad -= parameter.grad @ projector

    def _representations(self, tokens: Tensor, queries: Tensor, with_prompts: bool) -> tuple[Tensor, Tensor]:
        """What the memories get: (d, components) each; principal components do not see the position vectors."""
        s, prompts = self.settings, self.pool.prompts.detach()
        if s.space == "features":
            tokens, queries = tokens.flatten(0, 1).T, queries.T
        of_tokens = principal_scores(tokens.flatten(1), s.prompt_components)
        if with_prompts:
            of_prompts = principal_scores(prompts.flatten(0, 1).T, s.prompt_components)
            of_tokens[:, : of_prompts.shape[1]] += of_prompts
        return of_tokens, principal_scores(queries, s.key_components)


LEARNER = L2PPGP
