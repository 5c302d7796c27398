"""Scales and shifts behind every linear map and LayerNorm of a ViT (SSF; Lian et al., NeurIPS 2022)."""

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ntkcl.backbones.vit_blocks import feature_rows

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer


class ScaleShift(nn.Module):
    """x * scale + shift for each of `width` channels, drawn from N(1, std^2) and N(0, std^2)."""

    def __init__(self, width: int, std: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(1 + std * torch.randn(width))
        self.shift = nn.Parameter(std * torch.randn(width))

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., width) to (..., width)."""
        return x * self.scale + self.shift


class BlockScaleShifts(nn.Module):
    """Those of one block: behind its two LayerNorms and its four linear maps."""

    def __init__(self, block: nn.Module, dim: int, std: float) -> None:
        super().__init__()
        self.norm1, self.proj, self.norm2, self.fc2 = (ScaleShift(dim, std) for _ in range(4))
        self.qkv = ScaleShift(block.attn.qkv.out_features, std)
        self.fc1 = ScaleShift(block.mlp.fc1.out_features, std)

    def attention(self, block: nn.Module, tokens: Tensor) -> Tensor:
        """The attention half of the block, without its residual connection, of tokens (B, N, d)."""
        attention, normed = block.attn, self.norm1(block.norm1(tokens))
        parts = self.qkv(attention.qkv(normed)).unflatten(2, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = parts.unbind(0)
        attended = F.scaled_dot_product_attention(attention.q_norm(query), attention.k_norm(key), value)
        return block.ls1(self.proj(attention.proj(attention.norm(attended.transpose(1, 2).flatten(2)))))

    def mlp(self, block: nn.Module, tokens: Tensor) -> Tensor:
        """The MLP half of the block, without its residual connection, of tokens (B, n, d)."""
        mlp, normed = block.mlp, self.norm2(block.norm2(tokens))
        return block.ls2(self.fc2(mlp.fc2(mlp.norm(mlp.act(self.fc1(mlp.fc1(normed)))))))


class ScaleShifts(nn.Module):
    """Those of a whole ViT: also behind the projection of the patches and the final LayerNorm.

    Args:
        vit: the ViT.
        std: standard deviation of the first scales and shifts.
    """

    def __init__(self, vit: "VisionTransformer", std: float = 0.02) -> None:
        super().__init__()
        self.patches, self.norm = ScaleShift(vit.embed_dim, std), ScaleShift(vit.embed_dim, std)
        self.blocks = nn.ModuleList(BlockScaleShifts(block, vit.embed_dim, std) for block in vit.blocks)

    def feature(self, vit: "VisionTransformer", patches: Tensor) -> Tensor:
        """Compute the class feature (B, d) from projected patches (B, N, d), without class token and positions."""
        tokens = vit.norm_pre(vit.patch_drop(vit._pos_embed(self.patches(patches))))
        for index, (block, own) in enumerate(zip(vit.blocks, self.blocks, strict=True)):
            half = (tokens + own.attention(block, tokens))[:, : feature_rows(vit, index)]
            tokens = half + own.mlp(block, half)
        return self.norm(vit.norm(tokens[:, 0]))
