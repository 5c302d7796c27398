"""A timm `VisionTransformer` taken in halves, so that modules can act between them without a rewritten ViT."""

from typing import TYPE_CHECKING

from torch import Tensor, nn

from ntkcl.errors import UserError

if TYPE_CHECKING:  # importing timm takes seconds, and settings are validated without a ViT
    from timm.models.vision_transformer import Block, VisionTransformer


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


def embed(vit: "VisionTransformer", images: Tensor) -> Tensor:
    """Images (B, C, H, W) to the tokens (B, N, d) that enter the first block."""
    return vit.norm_pre(vit.patch_drop(vit._pos_embed(vit.patch_embed(images))))


def attention_half(block: "Block", tokens: Tensor) -> Tensor:
    """The first half of a block, with its residual connection: x + Attn(LN1 x), (B, N, d)."""
    return tokens + block.drop_path1(block.ls1(block.attn(block.norm1(tokens))))


def mlp_branch(block: "Block", tokens: Tensor) -> Tensor:
    """The second half of a block, without its residual connection: MLP(LN2 x), (B, N, d)."""
    return block.drop_path2(block.ls2(block.mlp(block.norm2(tokens))))


def class_feature(vit: "VisionTransformer", tokens: Tensor) -> Tensor:
    """The class token (B, d) after the final LayerNorm, which acts on tokens one by one."""
    return vit.norm(tokens[:, 0])


def plain_feature(vit: "VisionTransformer", tokens: Tensor) -> Tensor:
    """The feature (B, d) of the plain ViT for embedded tokens (B, N, d)."""
    for block in vit.blocks:
        tokens = block(tokens)
    return class_feature(vit, tokens)
