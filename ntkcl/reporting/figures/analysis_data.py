"""What `analysis.json` says, for the figures drawn from it, and what was measured of the runs that it names."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from ntkcl.errors import UserError
from ntkcl.reporting.figures.style import nth_style
from ntkcl.storage.files import read_json

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Example:
    """One run.

    Args:
        setting: the label of its dataset and backbone.
        variant: its label.
        arrays: what stands in `kernel.safetensors`; the coupling of tasks too.
        forecast: what `kernel.json` says of the learning of each task after the first.
    """

    setting: str
    variant: str
    arrays: Arrays
    forecast: list[dict[str, Any]]


def settings_of(content: dict[str, Any]) -> dict[str, str]:
    """The label of each dataset and backbone, in order; the backbone's only if there are several."""
    several = len({setting["backbone_label"] for setting in content["settings"]}) > 1
    return {
        setting["name"]: setting["label"] + (f"\n{setting['backbone_label']}" if several else "")
        for setting in content["settings"]
    }


def setting_styles(content: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """How each dataset and backbone is drawn, the same in every figure."""
    return {name: nth_style(index) for index, name in enumerate(settings_of(content))}


def examples_of(content: dict[str, Any]) -> Iterator[Example]:
    """The runs that are there, by setting in order, the reference first.

    Raises:
        UserError: a run's file is damaged.
    """
    reference = content["reference"]
    labels = {row["variant"]: row["label"] for row in content.get("forecast", [])}
    labels |= {reference: content["reference_label"]}
    for setting, label in settings_of(content).items():
        files = content.get("examples", {}).get(setting, {})
        for variant in sorted(files, key=lambda name: (name != reference, name)):
            if Path(files[variant]).exists():
                yield Example(label, labels.get(variant, variant), *_read(Path(files[variant])))


def numbered(arrays: Arrays, before: str, after: str = "") -> dict[int, np.ndarray]:
    """The arrays called `before`, a task's number and `after`, by that number."""
    parts = {name.removeprefix(before).removesuffix(after): name for name in arrays if name.startswith(before)}
    return {int(part): arrays[name] for part, name in sorted(parts.items()) if part.isdigit() and name.endswith(after)}


def _read(path: Path) -> tuple[Arrays, list[dict[str, Any]]]:
    beside = path.with_suffix(".json")
    numbers = read_json(beside) if beside.exists() else {}
    coupling = {"coupling": np.array(numbers["coupling"])} if "coupling" in numbers else {}
    try:
        return coupling | load_file(path), numbers.get("forecast", [])
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} cannot be read ({error}); delete it and measure the run again") from error
