"""Backbones that users pass to the library: shipped weights by name, a file, or a VisionTransformer of timm's."""

from pathlib import Path
from typing import Any

from torch import nn

from ntkcl.backbones import vit_blocks
from ntkcl.backbones.files import fingerprint, load_vit_file
from ntkcl.backbones.shipped import shipped_metadata, shipped_names, shipped_path
from ntkcl.backbones.timm_vit import VisionTransformer
from ntkcl.errors import UserError, nearest
from ntkcl.settings.models import Architecture


def open_backbone(backbone: str | Path | VisionTransformer) -> tuple[VisionTransformer, dict[str, Any]]:
    """Load a ViT with its metadata: `backbone` (its name or None), `fingerprint`, `architecture`, `preprocessing`.

    Args:
        backbone: name of shipped weights, a file of `ntkcl backbone`, or a model of timm's.

    Raises:
        UserError: the name is unknown, the file cannot be used, or the methods do not support this kind of ViT.
    """
    if isinstance(backbone, str | Path):
        return load_vit_file(_weights_file(Path(backbone)))
    vit_blocks.check(backbone)
    architecture = architecture_of(backbone).model_dump(mode="json")
    tensors = {name: tensor for name, tensor in backbone.state_dict().items() if not name.startswith("head.")}
    found = fingerprint(tensors, architecture["num_heads"])
    return backbone, {"backbone": None, "fingerprint": found, "architecture": architecture, "preprocessing": {}}


def find_backbone(path: Path, name: str | None, weights: str) -> Path:
    """Find the backbone that the state `path` was learned on: in the package, here, or in a folder above `path`.

    Args:
        path: the state.
        name: of the backbone; None if it was a model of the user's.
        weights: fingerprint of the backbone.

    Raises:
        UserError: there is none.
    """
    if name is None:
        raise UserError(f"{path} was learned on a VisionTransformer of your own; give it: backbone=...")
    if name in shipped_names() and shipped_metadata(name)["fingerprint"] == weights:
        return shipped_path(name)
    here = Path("backbones") / f"{name}.safetensors"
    for folder in (Path(), *path.resolve().parents):
        if (folder / here).is_file():
            return folder / here
    raise UserError(f"{path} was learned on the backbone '{name}', and there is no {here}; give it: backbone=...")


def _weights_file(backbone: Path) -> Path:
    """Return the shipped weights that `backbone` names, or else the file `backbone` itself."""
    if backbone.suffix or len(backbone.parts) != 1 or backbone.is_file():
        return backbone
    if backbone.name in (names := shipped_names()):
        return shipped_path(backbone.name)
    raise UserError(
        f"unknown backbone '{backbone}': no such file, and no weights of that name in the package; "
        f"{nearest(backbone.name, names)} (`ntkcl backbone NAME` writes backbones/NAME.safetensors)"
    )


def architecture_of(model: VisionTransformer) -> Architecture:
    """Return the architecture of a model that somebody else built.

    Raises:
        UserError: its images or its patches are not square, or its patch embedding is not one convolution.
    """
    patches, block = model.patch_embed, model.blocks[0]
    if not isinstance(patches.proj, nn.Conv2d):
        raise UserError("the patch embedding of the backbone is not one convolution; choose a plain VisionTransformer")
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
