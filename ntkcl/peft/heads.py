"""Classifiers on features: cosine proxies, prototypes, and a linear head that grows."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CosineClassifier(nn.Module):
    """scale * cos(feature, weight of the class), with weights and the scale learned.

    Args:
        dim: width D of the features.
        classes: number of classes.
        scale: initial value of the learned scale.
    """

    def __init__(self, dim: int, classes: int, scale: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(classes, dim).uniform_(-(dim**-0.5), dim**-0.5))
        self.scale = nn.Parameter(torch.tensor([float(scale)]))

    def forward(self, features: Tensor) -> Tensor:
        """Map features (B, D) to logits (B, classes)."""
        return self.scale * F.linear(F.normalize(features, dim=1), F.normalize(self.weight, dim=1))


class GrowingLinear(nn.Module):
    """A linear head with bias to which classes can be added; the rows of earlier classes are kept.

    Args:
        dim: width D of the features.
        std: standard deviation of new weights, normal and cut at two standard deviations, with biases of zero; None:
            new rows are initialized like a linear layer of torch.
    """

    def __init__(self, dim: int, std: float | None = None) -> None:
        super().__init__()
        self.std = std
        self.weight = nn.Parameter(torch.empty(0, dim))
        self.bias = nn.Parameter(torch.empty(0))

    def grow(self, classes: int) -> None:
        """Add `classes` rows."""
        new = nn.Linear(self.weight.shape[1], classes).to(self.weight)
        if self.std is not None:
            nn.init.trunc_normal_(new.weight, std=self.std, a=-2 * self.std, b=2 * self.std)
            nn.init.zeros_(new.bias)
        self.weight = nn.Parameter(torch.cat((self.weight.data, new.weight.data)))
        self.bias = nn.Parameter(torch.cat((self.bias.data, new.bias.data)))

    def grow_to(self, classes: int) -> None:
        """Add as many rows as are missing to `classes`."""
        if classes > len(self.bias):
            self.grow(classes - len(self.bias))

    def forward(self, features: Tensor) -> Tensor:
        """Map features (B, D) to logits (B, classes)."""
        return F.linear(features, self.weight, self.bias)


def prototype_scores(features: Tensor, prototypes: Tensor, weights: tuple[float, ...] = (1.0,)) -> Tensor:
    """Sum over feature parts of weight * cos(part of the feature, part of the prototype), (B, classes).

    Args:
        features: (B, D); D is the number of parts times the width of a part.
        prototypes: (classes, D).
        weights: weight of each feature part, in order.
    """
    parts = zip(weights, features.chunk(len(weights), 1), prototypes.chunk(len(weights), 1), strict=True)
    return sum(w * F.normalize(f, dim=1) @ F.normalize(p, dim=1).T for w, f, p in parts)
