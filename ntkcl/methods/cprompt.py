"""CPrompt, "Consistent Prompting for Rehearsal-Free Continual Learning" (Gao et al., CVPR 2024, arXiv 2403.08568)."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ntkcl.backbones.vit_blocks import check_blocks, embed, through_blocks
from ntkcl.methods.learner import Learner, Tensors
from ntkcl.peft.prompt_pool import cosines
from ntkcl.settings.models import Block, Count, Model, NotNegative, Positive
from ntkcl.tasks import Task

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer


class CPrompt(Learner):
    """Each task has two prompts and a linear head; the key of an image's nearest class says whose prompts it gets.

    Two losses make training like prediction: the new features must not excite the heads of earlier tasks, and the new
    head must work with the prompts of any task. Features are class tokens before the final norm.
    """

    class Settings(Model):
        """Settings of prompts and losses. The defaults are the released ones for CIFAR-100."""

        prompt_length: Count = Field(50, description="tokens of a prompt")
        second_block: Block = Field(5, description="block before which the second prompt joins; the first joins at 0")
        temperature: Positive = Field(1.2, description="of old heads' targets, where they are excited")
        margin: NotNegative = Field(0.0, description="by which the new head must exceed an old one, for temperature 1")
        consistency_weight: NotNegative = Field(1.0, description="weight of the loss on old heads")
        keys: Literal["own", "all"] = Field(
            "own", description="keys that a task changes: of its own classes; all: weight decay shrinks the others, too"
        )

    def __init__(self, backbone: "VisionTransformer", settings: Settings) -> None:
        super().__init__(backbone, settings)
        check_blocks(backbone, (settings.second_block,))
        self.keys = nn.Parameter(torch.empty(0, backbone.embed_dim))
        self.first_prompts, self.second_prompts = nn.ParameterList(), nn.ParameterList()
        self.heads, self.auxiliary = nn.ModuleList(), nn.Identity()
        self.tasks_of_classes: list[int] = []

    def add_task(self, task: Task) -> None:
        """Add keys for all planned classes, and prompts (copies of those of the task before) and heads for the task."""
        super().add_task(task)
        if missing := task.planned_classes - len(self.keys):
            self.keys = nn.Parameter(torch.cat((self.keys.data, self.new_keys(missing))))
        for prompts in (self.first_prompts, self.second_prompts):
            prompts.requires_grad_(False)
            prompts.append(nn.Parameter(prompts[-1].detach().clone() if len(prompts) else self._new_prompt()))
        self.heads.requires_grad_(False)
        self.heads.append(self._new_head(task.size))
        self.auxiliary = self._new_head(task.size)
        self.tasks_of_classes += [task.index] * task.size

    def new_keys(self, count: int) -> Tensor:
        """Draw keys (count, d) of unit length, orthogonal to each other and to the others as far as d allows."""
        drawn = torch.randn(count, self.backbone.embed_dim).to(self.keys)
        known = torch.linalg.qr(self.keys.data.T)[0] if len(self.keys) else drawn[:0].T
        free = max(0, min(count, drawn.shape[1] - len(self.keys)))
        orthogonal = torch.linalg.qr((drawn[:free] - drawn[:free] @ known @ known.T).T)[0].T
        return torch.cat((orthogonal, F.normalize(drawn[free:], dim=1)))

    def draw(self, count: int) -> Tensors:
        """Draw for each image the task whose prompts it gets in the pass for the new head."""
        return (torch.randint(len(self.heads), (count,), device=self.keys.device),)

    def update_maps(self) -> dict[nn.Parameter, Callable[[Tensor], Tensor]]:
        """Keep the keys of other classes, unless all are changed."""
        if self.settings.keys == "all":
            return {}
        own = torch.zeros(len(self.keys), 1, device=self.keys.device)
        own[self.first_class : self.classes_learned] = 1
        return {self.keys: lambda update: update * own}

    @torch.no_grad()
    def backbone_forward(self, images: Tensor) -> Tensors:
        """Compute the input tokens (B, N, d) of the first block and the query (B, d), before the final norm."""
        tokens = embed(self.backbone, images)
        return tokens, through_blocks(self.backbone, tokens)[:, 0].to(self.keys)

    def features(self, frozen: Tensors) -> Tensors:
        """Compute the feature (B, d) with the prompts of the task that each image's nearest key belongs to."""
        tokens, query = frozen
        return (self._with_prompts(tokens, self.choose(query)),)

    def training_features(self, frozen: Tensors, drawn: Tensors) -> Tensors:
        """Compute the features with the new prompts and with those drawn, (B, d) each, and the query."""
        tokens, query = frozen
        new = torch.full_like(drawn[0], len(self.heads) - 1)
        return self._with_prompts(tokens, new), self._with_prompts(tokens, *drawn), query

    def choose(self, query: Tensor) -> Tensor:
        """The task (B,) of the class whose key is nearest to each query (B, d)."""
        nearest = cosines(query, self.keys[: self.classes_learned]).argmax(1)
        return torch.tensor(self.tasks_of_classes, device=query.device)[nearest]

    def loss(self, features: Tensors, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the sum of four cross entropies: auxiliary head, old heads, keys, new head with any prompts."""
        new, mixed, query = features
        local, first = labels - self.first_class, self.first_class
        auxiliary = F.cross_entropy(self.auxiliary(new), local)
        keys = torch.cat((self.keys[:first].detach(), self.keys[first : self.classes_learned]))
        terms = {
            "auxiliary": auxiliary,
            "classifier_consistency": self._consistency(new),
            "keys": F.cross_entropy(cosines(query, keys), labels),
            "prompt_consistency": F.cross_entropy(self.heads[-1](mixed), local),
        }
        weights = {"classifier_consistency": self.settings.consistency_weight}
        return sum(weights.get(name, 1.0) * term for name, term in terms.items()), terms

    def scores_from_features(self, features: Tensors) -> Tensor:
        """Compute the logits (B, classes learned) of all heads."""
        return torch.cat([head(features[0]) for head in self.heads], 1)

    def training_logits(self, features: Tensors) -> Tensor:
        """The logits (B, classes of the task) of the new head."""
        return self.heads[-1](features[0])

    def _consistency(self, features: Tensor) -> Tensor:
        """Cross entropy of old heads with their own softened outputs, the mean over heads."""
        total, best = features.new_zeros(()), self.heads[-1](features).amax(1).detach()
        for head in self.heads[:-1]:
            logits = head(features)
            is_calm = best > logits.amax(1) + self.settings.margin
            temperature = torch.where(is_calm, 1.0, self.settings.temperature)[:, None]
            target = (logits / temperature).softmax(1).detach()
            total = total - (target * logits.log_softmax(1)).sum(1).mean() / (len(self.heads) - 1)
        return total

    def _with_prompts(self, tokens: Tensor, tasks: Tensor) -> Tensor:
        both = (torch.stack(list(prompts))[tasks] for prompts in (self.first_prompts, self.second_prompts))
        prompts = dict(zip((0, self.settings.second_block), both, strict=True))
        return through_blocks(self.backbone, tokens, prompts=prompts)[:, 0].to(self.keys)

    def _new_prompt(self) -> Tensor:
        length, dim = self.settings.prompt_length, self.backbone.embed_dim
        return torch.empty(length, dim).uniform_(-(dim**-0.5), dim**-0.5).to(self.keys)

    def _new_head(self, classes: int) -> nn.Linear:
        head = nn.Linear(self.backbone.embed_dim, classes)
        nn.init.uniform_(head.weight, -((3 / head.in_features) ** 0.5), (3 / head.in_features) ** 0.5)
        nn.init.zeros_(head.bias)
        return head.to(self.keys)


LEARNER = CPrompt
