"""The frozen feature extractors: unmodified timm VisionTransformers and the files with their weights."""

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ntkcl.backbones.digest import backbone_digest
from ntkcl.backbones.timm_vit import VisionTransformer
from ntkcl.errors import UserError
from ntkcl.settings.files import load_backbone
from ntkcl.settings.models import Architecture
from ntkcl.settings.validation import validated
from ntkcl.storage.tensors import checked_metadata, read_tensors, write_tensors

FORMAT = "ntkcl-backbone"
VERSION = 3


def weights_path(name: str) -> Path:
    """The file with the weights of the backbone `name`."""
    return Path("backbones") / f"{name}.safetensors"


def build_vit(architecture: Architecture, weight_init: str = "") -> VisionTransformer:
    """A VisionTransformer without a head: images (B, C, H, W) to the class token after the final norm (B, D).

    Args:
        weight_init: as for timm; "skip" where the weights are replaced.
    """
    settings = architecture.model_dump() | {"weight_init": weight_init}
    return VisionTransformer(**settings, num_classes=0, class_token=True, global_pool="token")


def load_vit(name: str) -> VisionTransformer:
    """The backbone `name`, frozen and in evaluation mode, on the CPU.

    Raises:
        UserError: the backbone is unknown, or its file is missing, damaged, or was made with other settings.
    """
    architecture = load_backbone(name).architecture
    path = weights_path(name)
    tensors, _ = read_tensors(path, FORMAT, VERSION, backbone_digest(name), _remedy(name))
    return _filled(architecture, tensors, path, _remedy(name))


def load_vit_file(path: Path) -> tuple[VisionTransformer, dict[str, Any]]:
    """The backbone in `path`, as `load_vit` gives it, and what the file says about itself; no `params/` is needed.

    Raises:
        UserError: the file is missing, damaged, or does not say what it is.
    """
    remedy = "make it with `ntkcl backbone NAME` in a project folder"
    tensors, about = read_tensors(path, FORMAT, VERSION, None, remedy)
    architecture = validated(Architecture, about["architecture"], f"{path}, architecture")
    return _filled(architecture, tensors, path, remedy), about


def write_weights(name: str, tensors: dict[str, Tensor], origin: dict[str, Any]) -> None:
    """Write the weights of the backbone `name`, and what is needed to use them without `params/`.

    Args:
        name: an entry of `params/backbones.yaml`.
        tensors: by the names of a `VisionTransformer` without a head.
        origin: where they come from.

    Raises:
        UserError: the file cannot be written.
    """
    backbone = load_backbone(name)
    about = {"format": FORMAT, "version": VERSION, "backbone": name, "digest": backbone_digest(name)}
    about |= {"architecture": backbone.architecture.model_dump(mode="json"), "preprocessing": backbone.preprocessing}
    about["fingerprint"] = fingerprint(tensors, backbone.architecture.num_heads)
    write_tensors(weights_path(name), tensors, about | origin)


def weights_metadata(name: str) -> dict[str, Any]:
    """What the file with the weights of the backbone `name` says about itself.

    Raises:
        UserError: as for `load_vit`.
    """
    path = weights_path(name)
    return checked_metadata(path, FORMAT, VERSION, backbone_digest(name), _remedy(name))[0]


def fingerprint(tensors: dict[str, Tensor], heads: int) -> str:
    """Names the weights of a backbone: a sha256 of all `tensors` and of the number of `heads`, which none shows."""
    digest = hashlib.sha256(str(heads).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _remedy(name: str) -> str:
    return f"run `ntkcl backbone {name}` (or `snakemake --cores all {weights_path(name)}`)"


def _filled(architecture: Architecture, tensors: dict[str, Tensor], path: Path, remedy: str) -> VisionTransformer:
    with torch.device("meta"):  # no time for weights that are replaced, and no draw from the global generator
        model = build_vit(architecture, weight_init="skip")
    if problem := tensor_difference(model.state_dict(), tensors):
        raise UserError(f"{path} does not fit its architecture: {problem}; {remedy}")
    model.load_state_dict(tensors, assign=True)
    return model.requires_grad_(False).eval()


def tensor_difference(expected: dict[str, Tensor], found: dict[str, Tensor]) -> str:
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
