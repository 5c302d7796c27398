"""The frozen feature extractors: unmodified timm VisionTransformers and the files with their weights."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ntkcl.backbones.timm_vit import VisionTransformer
from ntkcl.config import backbone_digest, load_backbone
from ntkcl.errors import UserError
from ntkcl.settings import Architecture
from ntkcl.tensors import read_tensors
from ntkcl.validation import validated

FORMAT = "ntkcl-backbone"
VERSION = 1


def weights_path(name: str) -> Path:
    """The file with the weights of the backbone `name`."""
    return Path("backbones") / f"{name}.safetensors"


def build(architecture: Architecture) -> VisionTransformer:
    """A VisionTransformer without a head: images (B, C, H, W) to the class token after the final norm (B, D)."""
    return VisionTransformer(**architecture.model_dump(), num_classes=0, class_token=True, global_pool="token")


def load(name: str) -> VisionTransformer:
    """The backbone `name`, frozen and in evaluation mode, on the CPU.

    Raises:
        UserError: the backbone is unknown, or its file is missing, damaged, or was made with other settings.
    """
    architecture = load_backbone(name).architecture
    path = weights_path(name)
    remedy = f"run `ntkcl backbone {name}` (or `snakemake --cores all {path}`)"
    tensors, _ = read_tensors(path, FORMAT, VERSION, backbone_digest(name), remedy)
    return _filled(architecture, tensors, path, remedy)


def load_file(path: Path) -> tuple[VisionTransformer, dict[str, Any]]:
    """The backbone in `path`, as `load` gives it, and what the file says about itself; no `params/` is needed.

    Raises:
        UserError: the file is missing, damaged, or does not say what it is.
    """
    remedy = "make it with `ntkcl backbone NAME` in a project folder"
    tensors, about = read_tensors(path, FORMAT, VERSION, None, remedy)
    if "architecture" not in about:
        raise UserError(f"{path} does not say its architecture, since an earlier version made it; {remedy}")
    architecture = validated(Architecture, about["architecture"], f"{path}, architecture")
    return _filled(architecture, tensors, path, remedy), about


def about_backbone(name: str) -> dict[str, Any]:
    """What every file with the weights of the backbone `name` says about itself, enough to use it without `params/`."""
    backbone = load_backbone(name)
    about = {"format": FORMAT, "version": VERSION, "backbone": name, "digest": backbone_digest(name)}
    return about | {"architecture": backbone.architecture.model_dump(mode="json"), "images": backbone.images}


def _filled(architecture: Architecture, tensors: dict[str, Tensor], path: Path, remedy: str) -> VisionTransformer:
    with torch.device("meta"):  # no time for weights that are replaced, and no draw from the global generator
        model = build(architecture)
    if problem := difference(model.state_dict(), tensors):
        raise UserError(f"{path} does not fit its architecture: {problem}; {remedy}")
    model.load_state_dict(tensors, assign=True)
    return model.requires_grad_(False).eval()


def difference(expected: dict[str, Tensor], found: dict[str, Tensor]) -> str:
    """The first thing in which the tensors that were found differ from the expected ones, or nothing."""
    for name in sorted(expected.keys() | found.keys()):
        if name not in found or name not in expected:
            return f"tensor '{name}' is {'missing' if name in expected else 'not part of it'}"
        if (found[name].shape, found[name].dtype) != (expected[name].shape, expected[name].dtype):
            return (
                f"tensor '{name}' is {found[name].dtype} {tuple(found[name].shape)}, "
                f"not {expected[name].dtype} {tuple(expected[name].shape)}"
            )
    return ""


__all__ = ["about_backbone", "build", "difference", "load", "load_file", "weights_path"]
