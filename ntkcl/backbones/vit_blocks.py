"""A timm `VisionTransformer` taken in half blocks, so that modules can act between them without a rewritten ViT."""

import copy
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ntkcl.errors import UserError

if TYPE_CHECKING:  # importing timm takes seconds, and settings are validated without a ViT
    from timm.models.vision_transformer import VisionTransformer


def check(vit: "VisionTransformer") -> None:
    """Make sure that the modules of this package can act on `vit`.

    Raises:
        UserError: it has no class token, no norm before pooling, or blocks other than timm's `Block`.
    """
    from timm.models.vision_transformer import Block

    if getattr(vit, "cls_token", None) is None:
        raise UserError("the backbone has no class token; choose a VisionTransformer with one")
    if vit.global_pool not in ("", "token"):
        raise UserError(
            f"the backbone pools its tokens (global_pool='{vit.global_pool}'), and the methods use its class token; "
            "build it with global_pool='token'"
        )
    if isinstance(vit.norm, nn.Identity):
        raise UserError("the backbone pools its tokens before the last norm; build it with global_pool='token'")
    if unexpected := {type(block).__name__ for block in vit.blocks if type(block) is not Block}:
        raise UserError(f"the backbone has blocks of type {', '.join(unexpected)}; choose one with timm's plain Block")


def check_blocks(vit: "VisionTransformer", blocks: Iterable[int]) -> None:
    """Make sure that `vit` has the blocks that settings name, and that they name each once.

    Raises:
        UserError: it has fewer, or a block is named again.
    """
    blocks = sorted(blocks)
    if again := [block for block, following in pairwise(blocks) if block == following]:
        raise UserError(f"the settings name block {again[0]} twice; name each block once")
    if (last := max(blocks, default=0)) >= len(vit.blocks):
        raise UserError(f"the settings name block {last}, and the backbone has {len(vit.blocks)}, counted from 0")


def token_count(vit: "VisionTransformer") -> int:
    """Number of tokens (patches, class token and registers) that enter the first block."""
    return vit.patch_embed.num_patches + vit.num_prefix_tokens


def in_precision(vit: "VisionTransformer", precision: str) -> "VisionTransformer":
    """Return `vit` for computing in `precision`: itself in float32, else a copy whose linear maps have that type.

    Autocast would round the weights at every use; frozen weights are rounded once, to the same values.

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


class FirstBlock(NamedTuple):
    """Output of the first block of the plain ViT, in halves. Modules add to it later, so it is shared by all.

    Args:
        half: (B, N, d), the tokens after the attention half, x + Attn(LN1 x).
        mlp: (B, N, d), the MLP half of `half` without its residual connection.
    """

    half: Tensor
    mlp: Tensor


def first_block(vit: "VisionTransformer", images: Tensor) -> FirstBlock:
    """Pass images (B, C, H, W) through the embedding and the first block."""
    half = attention_residual(vit, 0, embed(vit, images))
    return FirstBlock(half, mlp_branch(vit, 0, half))


def embed(vit: "VisionTransformer", images: Tensor) -> Tensor:
    """Images (B, C, H, W) to the tokens (B, N, d) that enter the first block."""
    return vit.norm_pre(vit.patch_drop(vit._pos_embed(vit.patch_embed(images))))


class Prefix(NamedTuple):
    """Keys and values that stand before those of the tokens in the attention of a block (prefix tuning).

    Args:
        key: (B, n, d), or (1, n, d) for all images of a batch.
        value: as the keys.
    """

    key: Tensor
    value: Tensor


KeyValue = Callable[[Tensor], Tensor]
"""What computes keys and values of a block's attention, as one tensor (B, N, 2 d), from normed tokens (B, N, d)."""


def attention_residual(
    vit: "VisionTransformer",
    index: int,
    tokens: Tensor,
    rows: int | None = None,
    prefix: Prefix | None = None,
    key_value: KeyValue | None = None,
) -> Tensor:
    """The attention half of block `index`, with its residual connection: x + Attn(LN1 x).

    Args:
        vit: the ViT.
        index: of the block, from 0.
        tokens: x, (B, N, d).
        rows: how many of the first tokens are computed; all if not given.
        prefix: keys and values that all tokens attend to as well.
        key_value: what computes keys and values; the block's own linear map if not given.

    Returns:
        (B, N, d), or (B, rows, d).
    """
    block = vit.blocks[index]
    normed = block.norm1(tokens)
    if rows is None and prefix is None and key_value is None:
        return tokens + block.drop_path1(block.ls1(block.attn(normed)))
    attended = _attention_rows(block.attn, normed, rows, prefix, key_value)
    return tokens[:, :rows] + block.drop_path1(block.ls1(attended))


def mlp_branch(vit: "VisionTransformer", index: int, tokens: Tensor) -> Tensor:
    """The MLP half of block `index`, without its residual connection: MLP(LN2 x), of any tokens (B, n, d)."""
    block = vit.blocks[index]
    return block.drop_path2(block.ls2(block.mlp(block.norm2(tokens))))


def feature_rows(vit: "VisionTransformer", index: int) -> int | None:
    """Rows of block `index` that the class feature depends on: the class token's alone in the last block."""
    return 1 if index == len(vit.blocks) - 1 else None


def class_feature(vit: "VisionTransformer", tokens: Tensor) -> Tensor:
    """The class token (B, d) after the final LayerNorm, which acts on tokens one by one."""
    return vit.norm(tokens[:, 0])


def through_blocks(
    vit: "VisionTransformer",
    tokens: Tensor,
    start: int = 0,
    prompts: Mapping[int, Tensor] | None = None,
    prefixes: Mapping[int, Prefix] | None = None,
    rows: int = 1,
) -> Tensor:
    """Pass tokens through the blocks from `start` on, with prompt tokens and prefixes.

    Args:
        vit: the ViT.
        tokens: (B, N, d), the input of block `start`, class token first.
        start: the first block, from 0.
        prompts: for each block before which prompt tokens (B, n, d) are inserted behind the class token, these tokens.
            They stay in the sequence.
        prefixes: for each block with a prefix, the prefix.
        rows: how many of the first tokens are computed in the last block.

    Returns:
        (B, rows, d), before the final norm: the class token, the last prompts inserted, those before, ...
    """
    prompts, prefixes, last = prompts or {}, prefixes or {}, len(vit.blocks) - 1
    for index in range(start, len(vit.blocks)):
        if index in prompts:
            tokens = torch.cat((tokens[:, :1], prompts[index].expand(len(tokens), -1, -1), tokens[:, 1:]), 1)
        half = attention_residual(vit, index, tokens, rows if index == last else None, prefixes.get(index))
        tokens = half + mlp_branch(vit, index, half)
    return tokens


def class_position(vit: "VisionTransformer") -> Tensor:
    """The position vector (d,) of the class token; zero if it has none."""
    return vit.cls_token.new_zeros(vit.embed_dim) if vit.no_embed_class else vit.pos_embed[0, 0]


def plain_feature(vit: "VisionTransformer", first: FirstBlock) -> Tensor:
    """The feature (B, d) of the plain ViT."""
    tokens = first.half + first.mlp
    for index in range(1, len(vit.blocks)):
        half = attention_residual(vit, index, tokens, feature_rows(vit, index))
        tokens = half + mlp_branch(vit, index, half)
    return class_feature(vit, tokens)


def _attention_rows(
    attention: nn.Module, tokens: Tensor, rows: int | None, prefix: Prefix | None, key_value: KeyValue | None
) -> Tensor:
    """The first `rows` rows of timm's `Attention`, without the queries and outputs of all other tokens."""
    if getattr(attention, "gate", None) is not None:
        if prefix is not None or key_value is not None:
            raise UserError("the backbone has gated attention, which this method cannot change; choose another one")
        return attention(tokens)[:, :rows]
    weight, bias, inner = attention.qkv.weight, attention.qkv.bias, attention.num_heads * attention.head_dim
    query = F.linear(tokens[:, :rows], weight[:inner], None if bias is None else bias[:inner])
    if key_value is None:
        both = F.linear(tokens, weight[inner:], None if bias is None else bias[inner:])
    else:
        both = key_value(tokens)
    key, value = both.chunk(2, dim=2)
    query, key, value = (x.unflatten(2, (attention.num_heads, -1)).transpose(1, 2) for x in (query, key, value))
    query, key = attention.q_norm(query), attention.k_norm(key)
    if prefix is not None:
        before = (x.to(key).expand(len(key), -1, -1).unflatten(2, (attention.num_heads, -1)) for x in prefix)
        key, value = (torch.cat((x.transpose(1, 2), y), 2) for x, y in zip(before, (key, value), strict=True))
    attended = F.scaled_dot_product_attention(query, key, value)
    return attention.proj_drop(attention.proj(attention.norm(attended.transpose(1, 2).flatten(2))))
