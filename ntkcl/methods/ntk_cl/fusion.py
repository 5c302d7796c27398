"""Fusion of the features of NTK-CL's two subnetworks into the hybrid feature, as published, and alternatives."""

import torch
from torch import Tensor, nn

from ntkcl.errors import UserError
from ntkcl.methods.ntk_cl.settings import Fusion


class Attention(nn.Module):
    """hybrid = channel + a * patch + b * attention(query = patch, key = value = channel), without an output map.

    The softmax over a single key is 1. So the attention equals its value map, and query and key get no gradient. They
    are kept because weight decay and regularization act on them, as in the released code.

    Args:
        dim: width D of a feature.
        heads: number of attention heads.
        dropout: probability of dropping a head's attention in training.
        patch_weight: the weight a.
        attention_weight: the weight b.
        has_query: false leaves out query and key; the value map is initialized as with them.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        dropout: float,
        patch_weight: float,
        attention_weight: float,
        has_query: bool = True,
    ) -> None:
        super().__init__()
        if dim % heads:
            raise UserError(f"fusion_heads = {heads} does not divide the feature width {dim}; change it")
        query, key, value = (nn.Linear(dim, dim) for _ in range(3))
        self.has_query = has_query
        if has_query:
            self.query, self.key = query, key
        self.value = value
        self.dropout = nn.Dropout(dropout)
        self.heads = heads
        self.patch_weight, self.attention_weight = patch_weight, attention_weight

    def forward(self, channel: Tensor, patch: Tensor) -> Tensor:
        """Map features (B, D) to the hybrid feature (B, D)."""
        value = self._by_head(self.value(channel))
        attended = (self.dropout(self._attention(channel, patch)) @ value).flatten(1)
        return channel + self.patch_weight * patch + self.attention_weight * attended

    def _attention(self, channel: Tensor, patch: Tensor) -> Tensor:
        """Compute the softmax over the only key, (B, heads, 1, 1): ones."""
        if not self.has_query:
            return channel.new_ones(len(channel), self.heads, 1, 1)
        query, key = self._by_head(self.query(patch)), self._by_head(self.key(channel))
        return (query @ key.transpose(2, 3) / query.shape[3] ** 0.5).softmax(3)

    def _by_head(self, features: Tensor) -> Tensor:
        return features.unflatten(1, (self.heads, 1, -1))


class Sum(nn.Module):
    """hybrid = channel + patch."""

    def forward(self, channel: Tensor, patch: Tensor) -> Tensor:
        """Map features (B, D) to the hybrid feature (B, D)."""
        return channel + patch


class Gated(nn.Module):
    """hybrid = g * channel + (1 - g) * patch with g = sigmoid(G [channel, patch]), one gate for each component."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gate = nn.Linear(2 * dim, dim)

    def forward(self, channel: Tensor, patch: Tensor) -> Tensor:
        """Map features (B, D) to the hybrid feature (B, D)."""
        gate = self.gate(torch.cat((channel, patch), 1)).sigmoid()
        return patch + gate * (channel - patch)


class Mlp(nn.Module):
    """hybrid = A relu(B [channel, patch]), with D hidden units."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(2 * dim, dim), nn.Linear(dim, dim)

    def forward(self, channel: Tensor, patch: Tensor) -> Tensor:
        """Map features (B, D) to the hybrid feature (B, D)."""
        return self.outer(self.inner(torch.cat((channel, patch), 1)).relu())


class Only(nn.Module):
    """One of the two features: a subnetwork alone."""

    def __init__(self, is_channel: bool) -> None:
        super().__init__()
        self.is_channel = is_channel

    def forward(self, channel: Tensor, patch: Tensor) -> Tensor:
        """Map features (B, D) to one of them."""
        return channel if self.is_channel else patch


def build_fusion(
    kind: Fusion, dim: int, heads: int, dropout: float, patch_weight: float, attention_weight: float
) -> nn.Module:
    """Build the fusion of this kind for features of width `dim`; the other arguments are for the attention.

    Raises:
        UserError: the number of heads does not divide the width.
    """
    if kind in ("attention", "value"):
        return Attention(dim, heads, dropout, patch_weight, attention_weight, has_query=kind == "attention")
    if kind in ("channel", "patch"):
        return Only(kind == "channel")
    return {"sum": Sum, "gated": lambda: Gated(dim), "mlp": lambda: Mlp(dim)}[kind]()
