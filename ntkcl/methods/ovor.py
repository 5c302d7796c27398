"""OVOR, "OnePrompt with Virtual Outlier Regularization" (Huang et al., ICLR 2024, arXiv 2402.04129)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from ntkcl.backbones.vit_blocks import Prefix, check_blocks, class_feature, embed, through_blocks
from ntkcl.devices import distributed
from ntkcl.methods.learner import Learner, Tensors
from ntkcl.peft.heads import GrowingLinear
from ntkcl.peft.outliers import outliers_around, outliers_of_noise
from ntkcl.settings.models import Block, Count, Model, NotNegative, Positive, Training
from ntkcl.tasks import Batches, Task, TaskImages

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer


class OVOR(Learner):
    """One prefix in each of the first blocks, the same for all images and tasks. The last epochs train the head alone.

    They use stored features of the task's images, and outliers around them: the energy -logsumexp of the task's logits
    must be low for images and high for outliers.
    """

    class Settings(Model):
        """Settings of prefixes and outliers. The defaults are the released ones for CIFAR-100."""

        general_blocks: tuple[Block, ...] = Field((0, 1), description="blocks with a prefix of `general_length`")
        general_length: Count = Field(10, description="keys and values of these prefixes together")
        expert_blocks: tuple[Block, ...] = Field((2, 3, 4), description="blocks with a prefix of `expert_length`")
        expert_length: Count = Field(40, description="keys and values of these prefixes together")
        warm_up_epochs: int = Field(
            0, ge=0, description="of a later task's epochs, the first: they train the head alone; at most all but one"
        )
        outlier_epochs: int = Field(
            4, ge=0, description="of a task's epochs, the last, with outliers; one for the prefixes is left"
        )
        outliers: Literal["around_boundary", "noise"] = Field(
            "around_boundary", description="around_boundary: boundary points plus noise; noise: that alone, as released"
        )
        outlier_weight: NotNegative = Field(0.1, description="weight of the loss on energies")
        outlier_batch: Count = Field(128, description="images of a step with outliers")
        neighbours: Count = Field(50, description="the neighbour whose distance says how far out a point is")
        boundary_points: Count = Field(50, description="boundary points; with noise alone, copies of each outlier")
        draws: Count = Field(600, description="noise vectors of an epoch")
        noise_scale: Positive = Field(0.1, description="standard deviation of the noise")
        outliers_per_class: Count = Field(40, description="outliers of an epoch, for each class of the task")
        image_energy: float = Field(-15.0, description="energy that images should not exceed")
        outlier_energy: float = Field(-3.0, description="energy that outliers should have at least")

        @model_validator(mode="after")
        def _is_even(self) -> "OVOR.Settings":
            if self.general_length % 2 or self.expert_length % 2:
                raise ValueError("a length is odd; half of a prefix are keys, half values")
            return self

    def __init__(self, backbone: "VisionTransformer", settings: Settings) -> None:
        super().__init__(backbone, settings)
        s, dim = settings, backbone.embed_dim
        check_blocks(backbone, (*s.general_blocks, *s.expert_blocks))
        self.general = nn.Parameter(torch.rand(len(s.general_blocks), s.general_length, dim))
        self.expert = nn.Parameter(torch.rand(len(s.expert_blocks), s.expert_length, dim))
        self.head = GrowingLinear(dim)
        self.phases = ["normal"]  # of the task's epochs

    def add_task(self, task: Task) -> None:
        """Add rows of the head for all planned classes."""
        super().add_task(task)
        self.task = task
        self.head.grow_to(task.planned_classes)

    def epochs_of(self, task: Task, training: Training) -> int:
        """All epochs; the first task has no warm-up, so it has fewer, on the same schedule."""
        epochs = training.epochs_of(task)
        return epochs if task.index else epochs - self._warm_up(epochs)

    def begin_task(self, task: Task, images: TaskImages, training: Training) -> None:
        """Divide the epochs among the phases."""
        epochs = self.epochs_of(task, training)
        warm_up = self._warm_up(epochs) if task.index else 0
        last = max(0, min(self.settings.outlier_epochs, epochs - warm_up - 1))
        self.phases = ["warm_up"] * warm_up + ["normal"] * (epochs - warm_up - last) + ["outlier"] * last

    @torch.no_grad()
    def begin_epoch(self, images: TaskImages) -> TaskImages:
        """Before an epoch with outliers, store the features of all images, as the training view gives them."""
        if self.phases[self.epoch] != "outlier":
            return images
        features, labels = self.stored_features(images)
        self.outliers = self.outliers_of(features)
        return StoredFeatures(features, labels, self.settings.outlier_batch)

    def stored_features(self, images: TaskImages) -> tuple[Tensor, Tensor]:
        """Features (N, d) and labels (N,) of all images of the task, in one pass with the training view."""
        passes = [
            (distributed.all_gather_rows(self.extract_features(batch)[0], len(labels)), labels)
            for batch, labels in images.train_batches(self.settings.outlier_batch)
        ]
        return tuple(torch.cat(parts) for parts in zip(*passes, strict=True))

    def outliers_of(self, features: Tensor) -> Tensor:
        """The outliers (n, d) of an epoch."""
        s = self.settings
        noise = s.noise_scale * distributed.broadcast(self.noise(s.draws)).to(features)
        count = s.outliers_per_class * self.task.size
        choose = outliers_of_noise if s.outliers == "noise" else outliers_around
        return choose(features, noise, s.neighbours, s.boundary_points, count)

    def noise(self, count: int) -> Tensor:
        """Draw noise (count, d), standard normal."""
        return torch.randn(count, self.backbone.embed_dim)

    @torch.no_grad()
    def backbone_forward(self, images: Tensor) -> Tensors:
        """Compute the input tokens (B, N, d) of the first block."""
        return (embed(self.backbone, images),)

    def features(self, frozen: Tensors) -> Tensors:
        """Compute the feature (B, d)."""
        prefixes = {}
        for blocks, rows in ((self.settings.general_blocks, self.general), (self.settings.expert_blocks, self.expert)):
            prefixes |= {index: Prefix(*rows[None, layer].chunk(2, 1)) for layer, index in enumerate(blocks)}
        return (class_feature(self.backbone, through_blocks(self.backbone, *frozen, prefixes=prefixes)),)

    def training_features(self, frozen: Tensors, drawn: Tensors) -> Tensors:
        """In a warm-up without gradients; in an epoch with outliers the stored feature and the number of its batch."""
        if self.phases[self.epoch] == "outlier":
            return frozen
        features = self.features(frozen)
        return tuple(each.detach() for each in features) if self.phases[self.epoch] == "warm_up" else features

    def loss(self, features: Tensors, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the cross entropy among the task's classes and, with outliers, the loss on energies."""
        s, logits = self.settings, self.training_logits(features[:1])
        cross_entropy = F.cross_entropy(logits, labels - self.first_class)
        of_images = of_outliers = cross_entropy.new_zeros(())
        if self.phases[self.epoch] == "outlier":
            outliers = self._outliers_of_batch(features[1])
            energies = [-each.logsumexp(1) for each in (logits, self.training_logits((outliers,)))]
            excess = (energies[0] - s.image_energy).relu(), (s.outlier_energy - energies[1]).relu()
            of_images, of_outliers = (F.huber_loss(each, torch.zeros_like(each)) for each in excess)
        total = cross_entropy + s.outlier_weight * (of_images + of_outliers)
        return total, {"cross_entropy": cross_entropy, "huber_images": of_images, "huber_outliers": of_outliers}

    def scores_from_features(self, features: Tensors) -> Tensor:
        """Compute the logits (B, classes learned)."""
        return self.head(features[0])[:, : self.classes_learned]

    def _warm_up(self, epochs: int) -> int:
        """Epochs of the warm-up of a task with `epochs`, of which one is left."""
        return max(0, min(self.settings.warm_up_epochs, epochs - 1))

    def _outliers_of_batch(self, place: Tensor) -> Tensor:
        """The outliers of a batch: `place` has its number and the number of batches, for each image."""
        number, batches = (int(value) for value in place[0].tolist())
        width = max(1, len(self.outliers) // batches)
        rows = torch.arange(number * width, (number + 1) * width) % len(self.outliers)
        return self.outliers[rows.to(self.outliers.device)]


@dataclass(frozen=True)
class StoredFeatures:
    """Features (N, d) of a task's images, as training batches of their own size, in random order."""

    features: Tensor
    labels: Tensor
    batch_size: int

    def train_batches(self, batch_size: int, skip: int = 0) -> Batches:
        """Pairs of features, with the number of the batch and that of batches for each image, and labels."""
        order = distributed.broadcast(self.order()).split(self.batch_size)  # drawn now, not during iteration
        return (self._batch(number, order) for number in range(skip, len(order)))

    def _batch(self, number: int, order: tuple[Tensor, ...]) -> tuple[Tensors, Tensor]:
        rows = distributed.shard(order[number])
        place = torch.tensor([[number, len(order)]], device=self.labels.device).expand(len(rows), -1)
        return (self.features[rows], place), self.labels[order[number]]

    def order(self) -> Tensor:
        """Draw the order of the images."""
        return torch.randperm(len(self.labels))


LEARNER = OVOR
