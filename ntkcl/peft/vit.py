"""A timm `VisionTransformer` taken in halves, so that modules can act between them without a rewritten ViT."""

import copy
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ntkcl.errors import UserError

if TYPE_CHECKING:  # importing timm takes seconds, and settings are validated without a ViT
    from timm.models.vision_transformer import VisionTransformer


def check(vit: "VisionTransformer") -> None:
    """Make sure that `vit` is of the kind that the modules here can act on.

    Raises:
        UserError: it has no class token, no norm before pooling, or blocks other than timm's `Block`.
    """
    from timm.models.vision_transformer import Block

    if getattr(vit, "cls_token", None) is None:
        raise UserError("the backbone has no class token; choose a VisionTransformer with one")
    if isinstance(vit.norm, nn.Identity):
        raise UserError("the backbone pools its tokens before the last norm; build it with global_pool='token'")
    if strange := {type(block).__name__ for block in vit.blocks if type(block) is not Block}:
        raise UserError(f"the backbone has blocks of type {', '.join(strange)}; choose one with timm's plain Block")


def token_count(vit: "VisionTransformer") -> int:
    """Number of tokens (patches, class token and registers) that enter the first block."""
    return vit.patch_embed.num_patches + vit.num_prefix_tokens


def in_precision(vit: "VisionTransformer", precision: str) -> "VisionTransformer":
    """`vit` for computing in `precision`: itself in float32, else a copy whose linear maps have weights of that type.

    Autocast would round them anew at every use; frozen weights are rounded once, to the same values.

    Args:
        precision: "float32" (in fact the type that `vit` has) or "bfloat16".
    """
    if precision == "float32":
        return vit
    vit = copy.deepcopy(vit)
    for module in vit.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            module.to(getattr(torch, precision))
    return vit


class Stem(NamedTuple):
    """The first block of the plain ViT, in halves: whatever a branch adds comes later, so it is the same for all.

    Args:
        half: (B, N, d), the tokens after the first half, x + Attn(LN1 x).
        mlp: (B, N, d), the second half of these without its residual connection.
    """

    half: Tensor
    mlp: Tensor


def stem(vit: "VisionTransformer", images: Tensor) -> Stem:
    """What the first block makes of images (B, C, H, W)."""
    half = attention_half(vit, 0, embed(vit, images))
    return Stem(half, mlp_branch(vit, 0, half))


def embed(vit: "VisionTransformer", images: Tensor) -> Tensor:
    """Images (B, C, H, W) to the tokens (B, N, d) that enter the first block."""
    return vit.norm_pre(vit.patch_drop(vit._pos_embed(vit.patch_embed(images))))


def attention_half(vit: "VisionTransformer", index: int, tokens: Tensor) -> Tensor:
    """The first half of block `index`, with its residual connection: x + Attn(LN1 x), (B, N, d).

    Of the last block it is the class token's row alone, (B, 1, d): the feature needs no other.
    """
    block = vit.blocks[index]
    normed = block.norm1(tokens)
    if index < len(vit.blocks) - 1:
        return tokens + block.drop_path1(block.ls1(block.attn(normed)))
    return tokens[:, :1] + block.drop_path1(block.ls1(_class_attention(block.attn, normed)))


def mlp_branch(vit: "VisionTransformer", index: int, tokens: Tensor) -> Tensor:
    """The second half of block `index`, without its residual connection: MLP(LN2 x), of any tokens (B, n, d)."""
    block = vit.blocks[index]
    return block.drop_path2(block.ls2(block.mlp(block.norm2(tokens))))


def class_feature(vit: "VisionTransformer", tokens: Tensor) -> Tensor:
    """The class token (B, d) after the final LayerNorm, which acts on tokens one by one."""
    return vit.norm(tokens[:, 0])


def plain_feature(vit: "VisionTransformer", stem: Stem) -> Tensor:
    """The feature (B, d) of the plain ViT."""
    tokens = stem.half + stem.mlp
    for index in range(1, len(vit.blocks)):
        half = attention_half(vit, index, tokens)
        tokens = half + mlp_branch(vit, index, half)
    return class_feature(vit, tokens)


def _class_attention(attention: nn.Module, tokens: Tensor) -> Tensor:
    """The class token's row (B, 1, d) of timm's `Attention`, without the queries and outputs of all other tokens."""
    if getattr(attention, "gate", None) is not None:
        return attention(tokens)[:, :1]
    weight, bias, inner = attention.qkv.weight, attention.qkv.bias, attention.num_heads * attention.head_dim
    query = F.linear(tokens[:, :1], weight[:inner], None if bias is None else bias[:inner])
    key, value = F.linear(tokens, weight[inner:], None if bias is None else bias[inner:]).chunk(2, dim=2)
    query, key, value = (x.unflatten(2, (attention.num_heads, -1)).transpose(1, 2) for x in (query, key, value))
    query, key = attention.q_norm(query), attention.k_norm(key)
    attended = F.scaled_dot_product_attention(query, key, value)
    return attention.proj_drop(attention.proj(attention.norm(attended.transpose(1, 2).flatten(2))))
