"""Backbones as a person hands them to the library: a file, or a VisionTransformer of timm's."""

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ntkcl.backbones import load_file
from ntkcl.backbones.timm_vit import VisionTransformer
from ntkcl.errors import UserError
from ntkcl.peft import vit
from ntkcl.settings import Architecture


def open_backbone(backbone: str | Path | VisionTransformer) -> tuple[VisionTransformer, dict[str, Any]]:
    """The ViT, and what is known about it: `backbone` (its name, if it has one), `digest`, `architecture`, `images`.

    Raises:
        UserError: the file cannot be used, or the ViT is not of the kind that the methods can act on.
    """
    if isinstance(backbone, str | Path):
        return load_file(Path(backbone))
    vit.check(backbone)
    architecture = architecture_of(backbone).model_dump(mode="json")
    return backbone, {"backbone": None, "digest": fingerprint(backbone), "architecture": architecture, "images": {}}


def architecture_of(model: VisionTransformer) -> Architecture:
    """The architecture of a model that somebody else built.

    Raises:
        UserError: its images or its patches are not square, or it looks at patches by more than one convolution.
    """
    patches, block = model.patch_embed, model.blocks[0]
    if not isinstance(patches.proj, nn.Conv2d):
        raise UserError("the backbone has a network of its own for patches; choose a plain VisionTransformer")
    if len({*patches.img_size}) > 1 or len({*patches.patch_size}) > 1:
        sizes = f"images of {patches.img_size} pixels in patches of {patches.patch_size}"
        raise UserError(f"the backbone takes {sizes}; choose one whose images and patches are square")
    return Architecture(
        img_size=patches.img_size[0],
        patch_size=patches.patch_size[0],
        in_chans=patches.proj.in_channels,
        embed_dim=model.embed_dim,
        depth=len(model.blocks),
        num_heads=block.attn.num_heads,
        mlp_ratio=block.mlp.fc1.out_features / model.embed_dim,
    )


def fingerprint(model: VisionTransformer) -> str:
    """The sha256 of all tensors of `model` but those of a classification head."""
    digest = hashlib.sha256(str(model.blocks[0].attn.num_heads).encode())  # no tensor shows it
    for name, tensor in sorted(model.state_dict().items()):
        if not name.startswith("head."):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
