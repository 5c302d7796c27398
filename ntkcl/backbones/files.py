"""The frozen feature extractors: unmodified timm VisionTransformers and the files with their weights."""

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ntkcl.backbones.digest import backbone_digest, recipe_digest
from ntkcl.backbones.shipped import check_shipped, shipped_path
from ntkcl.backbones.timm_vit import VisionTransformer
from ntkcl.errors import UserError
from ntkcl.settings.files import PARAMS, load_backbone
from ntkcl.settings.models import Architecture
from ntkcl.settings.validation import validated
from ntkcl.storage.tensors import checked_metadata, read_tensors, require, write_tensors

FORMAT = "ntkcl-backbone"
VERSION = 3


def weights_path(name: str) -> Path:
    """Return the file with the weights of the backbone `name`."""
    return Path("backbones") / f"{name}.safetensors"


def build_vit(architecture: Architecture, weight_init: str = "") -> VisionTransformer:
    """Build a VisionTransformer without a head: images (B, C, H, W) to the class token after the final norm (B, D).

    Args:
        architecture: its settings.
        weight_init: as for timm; "skip" if the weights are replaced.
    """
    settings = architecture.model_dump() | {"weight_init": weight_init}
    return VisionTransformer(**settings, num_classes=0, class_token=True, global_pool="token")


def load_vit(name: str) -> VisionTransformer:
    """Load the backbone `name`, frozen and in evaluation mode, on the CPU.

    Raises:
        UserError: the backbone is unknown, or its file is missing, damaged, or has other weights than the settings say.
    """
    architecture = load_backbone(name).architecture
    path = weights_path(name)
    tensors, metadata = read_tensors(path, FORMAT, VERSION, backbone_digest(name), _remedy(name))
    return _filled(architecture, tensors, metadata, path, _remedy(name))


def load_vit_file(path: Path) -> tuple[VisionTransformer, dict[str, Any]]:
    """Load the backbone in `path` like `load_vit`, with the metadata of the file; no `params/` is needed.

    Raises:
        UserError: the file is missing, damaged, or not a backbone.
    """
    remedy = "create it with `ntkcl backbone NAME` in a project folder"
    tensors, metadata = read_tensors(path, FORMAT, VERSION, None, remedy)
    types = {"architecture": dict, "preprocessing": dict, "fingerprint": str, "backbone": str | None}
    require(metadata, types, path, remedy)
    architecture = validated(Architecture, metadata["architecture"], f"{path}, architecture")
    return _filled(architecture, tensors, metadata, path, remedy), metadata


def copy_shipped_weights(name: str) -> None:
    """Write the weights of the backbone `name` that come with the package.

    Raises:
        UserError: they are damaged, are not the ones that the settings name, or cannot be written.
    """
    backbone, path, remedy = load_backbone(name), shipped_path(name), "install ntkcl again"
    check_shipped(name, backbone)
    tensors, metadata = read_tensors(path, FORMAT, VERSION, None, remedy)
    if fingerprint(tensors, backbone.architecture.num_heads) != backbone.shipped:
        raise UserError(f"{path} is damaged: its tensors do not have the fingerprint in its metadata; {remedy}")
    write_weights(name, tensors, metadata)


def write_weights(name: str, tensors: dict[str, Tensor], origin: dict[str, Any]) -> None:
    """Write the weights of the backbone `name`, with all that is needed to use them without `params/`.

    Weights other than the shipped ones that the settings name get the digest of their recipe: `load_vit` refuses them
    until `shipped` is removed from the settings.

    Args:
        name: an entry of `params/backbones.yaml`.
        tensors: by the names of a `VisionTransformer` without a head.
        origin: more metadata: where the weights come from.

    Raises:
        UserError: the file cannot be written.
    """
    backbone = load_backbone(name)
    found = fingerprint(tensors, backbone.architecture.num_heads)
    digest = backbone_digest(name) if backbone.shipped in (None, found) else recipe_digest(name)
    metadata = {"format": FORMAT, "version": VERSION, "backbone": name, "digest": digest, "fingerprint": found}
    metadata |= {"architecture": backbone.architecture.model_dump(mode="json"), "preprocessing": backbone.preprocessing}
    write_tensors(weights_path(name), tensors, origin | metadata)


def weights_metadata(name: str) -> dict[str, Any]:
    """Metadata of the file with the weights of the backbone `name`.

    Raises:
        UserError: as for `load_vit`.
    """
    path = weights_path(name)
    return checked_metadata(path, FORMAT, VERSION, backbone_digest(name), _remedy(name))[0]


def fingerprint(tensors: dict[str, Tensor], heads: int) -> str:
    """Name the weights of a backbone: sha256 of all `tensors` and of the number of `heads`, which no tensor shows."""
    digest = hashlib.sha256(str(heads).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _remedy(name: str) -> str:
    if load_backbone(name).shipped and weights_path(name).exists():
        keep = f"remove `shipped` from {name} in {PARAMS}/backbones.yaml to use the others"
        return f"run `ntkcl backbone {name}` for the weights in the package, or {keep}"
    return f"run `ntkcl backbone {name}` (or `snakemake --cores all {weights_path(name)}`)"


def _filled(
    architecture: Architecture, tensors: dict[str, Tensor], metadata: dict[str, Any], path: Path, remedy: str
) -> VisionTransformer:
    with torch.device("meta"):  # no time for initial weights, no random numbers from the global generator
        model = build_vit(architecture, weight_init="skip")
    if problem := tensor_difference(model.state_dict(), tensors):
        raise UserError(f"{path} does not fit its architecture: {problem}; {remedy}")
    if fingerprint(tensors, architecture.num_heads) != metadata.get("fingerprint"):
        raise UserError(f"{path} is damaged: its tensors do not have the fingerprint in its metadata; {remedy}")
    model.load_state_dict(tensors, assign=True)
    return model.requires_grad_(False).eval()


def tensor_difference(expected: dict[str, Tensor], found: dict[str, Tensor]) -> str:
    """Return the first difference between the tensors that were found and the expected ones, or an empty text."""
    for name in sorted(expected.keys() | found.keys()):
        if name not in found or name not in expected:
            return f"tensor '{name}' is {'missing' if name in expected else 'not part of it'}"
        if (found[name].shape, found[name].dtype) != (expected[name].shape, expected[name].dtype):
            return (
                f"tensor '{name}' is {found[name].dtype} {tuple(found[name].shape)}, "
                f"not {expected[name].dtype} {tuple(expected[name].shape)}"
            )
    return ""
