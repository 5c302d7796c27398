"""Bottleneck adapters next to the MLP of every block, as in AdaptFormer; the channel subnetwork (S1) of NTK-CL."""

import math
from typing import TYPE_CHECKING

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ntkcl.backbones.vit_blocks import FirstBlock, attention_residual, class_feature, feature_rows, mlp_branch
from ntkcl.settings.models import Count, Fraction, Model, NotNegative

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer


class AdapterSettings(Model):
    """Settings of adapters. The defaults are EASE's (Zhou et al., CVPR 2024)."""

    adapter_width: Count = Field(64, description="width of the adapters' bottleneck")
    adapter_scale: NotNegative = Field(0.1, description="factor of the adapters' output")
    adapter_dropout: Fraction = Field(0.1, description="dropout in the adapters' bottleneck")


class Adapter(nn.Module):
    """scale * Up(dropout(ReLU(Down h))), initially zero.

    Args:
        dim: width d of the tokens.
        width: width of the bottleneck.
        scale: factor of the output.
        dropout: probability of dropping a bottleneck unit in training.
    """

    def __init__(self, dim: int, width: int, scale: float, dropout: float) -> None:
        super().__init__()
        self.down = nn.Linear(dim, width)
        self.up = nn.Linear(width, dim)
        self.dropout = nn.Dropout(dropout)
        self.scale = scale
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(zero)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens (B, N, d) to what is added to the block's output, (B, N, d)."""
        hidden = self.dropout(self.down(tokens).relu())
        return F.linear(hidden, self.scale * self.up.weight, self.scale * self.up.bias)  # cheaper than scaling tokens


class Adapters(nn.ModuleList):
    """An adapter for every block of a ViT.

    Args:
        vit: the ViT.
        width: width of the bottlenecks.
        scale: factor of the outputs.
        dropout: probability of dropping a bottleneck unit in training.
    """

    def __init__(self, vit: "VisionTransformer", width: int, scale: float, dropout: float) -> None:
        super().__init__(Adapter(vit.embed_dim, width, scale, dropout) for _ in vit.blocks)

    def feature(self, vit: "VisionTransformer", first: FirstBlock) -> Tensor:
        """Compute the class feature (B, d).

        If h is the input of a block's second half, the block's output is h + MLP(LN2 h) + adapter(h).
        """
        tokens = first.half + first.mlp + self[0](first.half)
        for index in range(1, len(self)):
            half = attention_residual(vit, index, tokens, feature_rows(vit, index))
            tokens = half + mlp_branch(vit, index, half) + self[index](half)
        return class_feature(vit, tokens)
