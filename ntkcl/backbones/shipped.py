"""Pre-trained weights in the package: their files, and a check of the settings against them."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from safetensors import safe_open

from ntkcl.errors import UserError
from ntkcl.settings.files import PARAMS
from ntkcl.settings.models import Backbone
from ntkcl.settings.validation import validated

FOLDER = Path(__file__).parent / "weights"


def shipped_names() -> list[str]:
    """Names of the backbones whose weights are in the package."""
    return sorted(path.stem for path in FOLDER.glob("*.safetensors"))


def shipped_path(name: str) -> Path:
    """The file in the package with the weights of the backbone `name`, one of `shipped_names`."""
    return FOLDER / f"{name}.safetensors"


@cache
def shipped_metadata(name: str) -> dict[str, Any]:
    """Metadata of the shipped weights of `name`: fingerprint, architecture, recipe, provenance; torch is not needed."""
    with safe_open(shipped_path(name), framework="np") as file:
        return json.loads(file.metadata()["ntkcl"])


def check_shipped(name: str, backbone: Backbone) -> None:
    """Make sure that the settings `backbone` describe the weights of `name` in the package.

    Raises:
        UserError: the package has no such weights, or their fingerprint, architecture or recipe differ.
    """
    where, remedy = f"{PARAMS}/backbones.yaml, {name}", "remove `shipped` to pre-train here"
    if name not in shipped_names():
        raise UserError(f"{where}: the package has weights of {', '.join(shipped_names())} only; {remedy}")
    metadata = shipped_metadata(name)
    if backbone.shipped != metadata["fingerprint"]:
        found = metadata["fingerprint"]
        raise UserError(f"{where}: the weights in the package have the fingerprint {found}; correct it, or {remedy}")
    for part in ("architecture", "pretraining"):
        settings = getattr(backbone, part)
        theirs = validated(type(settings), metadata[part], f"{shipped_path(name)}, {part}")
        for key, value in settings:
            if value != (shipped := getattr(theirs, key)):
                raise UserError(f"{where}: {part}.{key} is {value}, of the shipped weights {shipped}; {remedy}")
