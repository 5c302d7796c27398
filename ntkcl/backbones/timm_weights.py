"""Published weights of timm's models, checked and converted to a backbone."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ntkcl.backbones.files import build_vit, tensor_difference, write_weights
from ntkcl.backbones.timm_vit import VisionTransformer, create_model, list_models
from ntkcl.errors import UserError, nearest
from ntkcl.fetching.checksums import recorded, records_path
from ntkcl.fetching.fetch import confirm, fetch
from ntkcl.settings.files import PARAMS, load_backbone
from ntkcl.settings.models import Architecture
from ntkcl.storage.files import sha256_of

HEAD = {"head.weight", "head.bias"}  # of the classification in pre-training


def convert_timm_weights(name: str) -> None:
    """Fetch the published weights of the backbone `name`, drop their classification head and write the rest.

    Raises:
        UserError: timm has no such weights or builds another architecture for them, the file cannot be fetched or is
            not the expected one, or the backbone cannot be written.
    """
    backbone = load_backbone(name)
    check_tag(backbone.weights.timm, backbone.architecture, f"{PARAMS}/backbones.yaml, {name}")
    ((file_name, path),) = fetch(name, backbone.weights.files).items()
    tensors = read_checkpoint(path, backbone.architecture, backbone.weights.timm)
    write_weights(name, tensors, _origin(name, file_name, path))
    confirm(name, backbone.weights.files)


def check_tag(tag: str, architecture: Architecture, where: str) -> None:
    """Make sure that timm knows `tag` and builds `architecture` for it.

    Args:
        tag: a model of timm and its tag, as in `vit_base_patch16_224.augreg_in21k`.
        architecture: expected architecture.
        where: place of both in the settings, for the error.

    Raises:
        UserError: it does not.
    """
    if tag not in (tags := list_models(pretrained=True)):
        raise UserError(f"{where}: timm has no weights '{tag}'; {nearest(tag, tags)}")
    with torch.device("meta"):  # only shapes are compared
        theirs, ours = create_model(tag, pretrained=False, num_classes=0), build_vit(architecture)
    if problem := _model_difference(theirs, ours):
        raise UserError(f"{where}: architecture is not that of '{tag}': {problem}; correct one of the two")


def read_checkpoint(path: Path, architecture: Architecture, tag: str) -> dict[str, Tensor]:
    """Read the tensors of the published file `path` without its classification head.

    Raises:
        UserError: it is not a safetensors file, is cut off, or its tensors do not fit `architecture`.
    """
    remedy = f"replace it by model.safetensors of {tag}, and remove its entry in {records_path()}, if it has one"
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path} is not a whole safetensors file ({' '.join(str(error).split())}); {remedy}") from error
    tensors = {name: tensor for name, tensor in tensors.items() if name not in HEAD}
    with torch.device("meta"):
        expected = build_vit(architecture).state_dict()
    if problem := tensor_difference(expected, tensors):
        raise UserError(f"{path} does not fit the architecture of {tag}: {problem}; {remedy}")
    return tensors


def _model_difference(theirs: VisionTransformer, ours: VisionTransformer) -> str:
    """Return the first difference between a model of timm's and one that we built, or an empty text."""
    if type(theirs) is not VisionTransformer:
        return f"it is a {type(theirs).__name__}, not a VisionTransformer"
    if problem := tensor_difference(theirs.state_dict(), ours.state_dict()):
        return problem
    heads, own = (model.blocks[0].attn.num_heads for model in (theirs, ours))  # no tensor shows them
    return f"it has {heads} heads, not {own}" if heads != own else ""


def _origin(name: str, file_name: str, path: Path) -> dict[str, Any]:
    """Metadata of the weights: timm's name, the file's checksum, and its address if it was fetched."""
    origin = {"timm": load_backbone(name).weights.timm, "file": file_name, "sha256": sha256_of(path)}
    record = recorded(f"{name}/{file_name}")
    return origin | (record.model_dump(include={"url", "revision"}, exclude_defaults=True) if record else {})
