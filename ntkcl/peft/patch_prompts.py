"""Prompt tokens that are computed from the image's tokens in every block: the patch subnetwork (S2) of NTK-CL."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ntkcl.backbones.vit_blocks import (
    FirstBlock,
    attention_residual,
    class_feature,
    feature_rows,
    mlp_branch,
    token_count,
)

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer


class PatchPrompt(nn.Module):
    """P = LN(W h + b): a linear map over the token axis computes `count` prompts from `tokens` tokens.

    As released, all parameters start at zero, including the scale of LN. This blocks the gradients of W, b and that
    scale: only the bias of LN learns, and a block inserts one learned vector `count` times. If `trainable`, W is
    initialized like a linear layer of torch: the prompts are still zero at first, but all parameters can learn.
    """

    def __init__(self, dim: int, tokens: int, count: int, trainable: bool = False) -> None:
        super().__init__()
        self.token_map = nn.Linear(tokens, count)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        for zero in (
            (self.norm.weight,) if trainable else (self.token_map.weight, self.token_map.bias, self.norm.weight)
        ):
            nn.init.zeros_(zero)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens (B, N, d) to prompts (B, count, d)."""
        return self.norm(self.token_map.weight @ tokens + self.token_map.bias[:, None])


class PatchPrompts(nn.ModuleList):
    """A `PatchPrompt` for every block of a ViT.

    Args:
        vit: the ViT.
        count: number of prompts per block.
        scale: factor of the prompts that come from the block before.
        trainable: whether the maps that compute the prompts can learn; false in the released code.
    """

    def __init__(self, vit: "VisionTransformer", count: int, scale: float, trainable: bool = False) -> None:
        super().__init__(PatchPrompt(vit.embed_dim, token_count(vit), count, trainable) for _ in vit.blocks)
        self.scale = scale

    def feature(self, vit: "VisionTransformer", first: FirstBlock) -> Tensor:
        """Compute the class feature (B, d).

        Prompts are inserted before LN2 and the MLP. They are placed after the image's tokens here, and after the class
        token in the released code; no map of the ViT depends on the order. The residual connection of the MLP half adds
        the output of the attention half: nothing for the first block's prompts, the incoming prompts from then on. The
        last block's prompts cannot reach the class token, so they are not computed.
        """
        tokens, count = first.half + first.mlp, first.half.shape[1]
        if len(self) > 1:
            tokens = torch.cat((tokens, mlp_branch(vit, 0, self[0](first.half))), dim=1)
        for index in range(1, len(self)):
            half = entering = attention_residual(vit, index, tokens, feature_rows(vit, index))
            if index < len(self) - 1:
                image, incoming = half[:, :count], half[:, count:]
                entering = torch.cat((image, self[index](image) + self.scale * incoming), dim=1)
            tokens = half + mlp_branch(vit, index, entering)
        return class_feature(vit, tokens)
