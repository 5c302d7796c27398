"""Backbones as a person hands them to the library: a file, or a VisionTransformer of timm's."""

from pathlib import Path
from typing import Any

from torch import nn

from ntkcl.backbones import vit_blocks
from ntkcl.backbones.files import fingerprint, load_vit_file
from ntkcl.backbones.timm_vit import VisionTransformer
from ntkcl.errors import UserError
from ntkcl.settings.models import Architecture


def open_backbone(backbone: str | Path | VisionTransformer) -> tuple[VisionTransformer, dict[str, Any]]:
    """The ViT and what is known about it: `backbone` (its name or None), `fingerprint`, `architecture`, `preprocessing`.

    Raises:
        UserError: the file cannot be used, or the ViT is not of the kind that the methods can act on.
    """
    if isinstance(backbone, str | Path):
        return load_vit_file(Path(backbone))
    vit_blocks.check(backbone)
    architecture = architecture_of(backbone).model_dump(mode="json")
    tensors = {name: tensor for name, tensor in backbone.state_dict().items() if not name.startswith("head.")}
    name = fingerprint(tensors, architecture["num_heads"])
    return backbone, {"backbone": None, "fingerprint": name, "architecture": architecture, "preprocessing": {}}


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
