"""Prompt tokens that the other tokens of a block attend to, and whose own outputs are dropped."""

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

from ntkcl.backbones.vit_blocks import Prefix

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer


def token_prefix(vit: "VisionTransformer", index: int, prompts: Tensor) -> Prefix:
    """The keys and values of block `index` of `prompts`, (n, d): tokens that enter its first norm."""
    block = vit.blocks[index]
    attention, normed = block.attn, block.norm1(prompts)
    key, value = linear_part(attention.qkv, normed, 1), linear_part(attention.qkv, normed, 2)
    key = attention.k_norm(key.unflatten(1, (attention.num_heads, -1))).flatten(1)
    return Prefix(key[None], value[None])


def linear_part(qkv: nn.Linear, tokens: Tensor, part: int) -> Tensor:
    """The queries (part 0), keys (1) or values (2) of tokens (..., d)."""
    size = qkv.out_features // 3
    rows = slice(part * size, (part + 1) * size)
    return F.linear(tokens, qkv.weight[rows], None if qkv.bias is None else qkv.bias[rows])
