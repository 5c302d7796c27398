"""Labels and styles of conditions, and the files of runs that `analysis.json` names."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ntkcl.errors import UserError
from ntkcl.reporting.figures.style import nth_style
from ntkcl.reporting.json_files import parsed
from ntkcl.reporting.run_results import KernelMeasures, TaskForecast
from ntkcl.reporting.study_comparison import StudyComparison
from ntkcl.storage.files import read_json
from ntkcl.storage.tensor_bytes import check_bytes

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class ExampleRun:
    """A measured run.

    Args:
        condition: label of its dataset and backbone.
        variant: label of its variant.
        arrays: content of `kernel.safetensors`, and the coupling of tasks.
        forecast: of the learning of each task after the first.
    """

    condition: str
    variant: str
    arrays: Arrays
    forecast: list[TaskForecast]


def condition_labels(study: StudyComparison) -> dict[str, str]:
    """Return the label of each condition, in order; the backbone is part of it only if there are several."""
    several = len({condition.backbone_label for condition in study.conditions}) > 1
    return {
        condition.name: condition.label + (f"\n{condition.backbone_label}" if several else "")
        for condition in study.conditions
    }


def condition_styles(study: StudyComparison) -> dict[str, dict[str, Any]]:
    """Return color, marker and line style of each condition, the same in every figure."""
    return {condition.name: nth_style(index) for index, condition in enumerate(study.conditions)}


def example_runs(study: StudyComparison) -> Iterator[ExampleRun]:
    """Read the runs whose files exist, by condition in order, the reference first.

    Raises:
        UserError: a run's file is damaged.
    """
    labels = {row.variant: row.label for row in study.forecast} | {study.reference: study.reference_label}
    for condition, label in condition_labels(study).items():
        files = study.examples.get(condition, {})
        for variant in sorted(files, key=lambda name: (name != study.reference, name)):
            if (path := Path(files[variant])).exists():
                yield ExampleRun(label, labels.get(variant, variant), *_read(path))


def arrays_by_number(arrays: Arrays, prefix: str, suffix: str = "") -> dict[int, np.ndarray]:
    """Return the arrays whose names are `prefix`, a task's number and `suffix`, by that number."""
    parts = {name.removeprefix(prefix).removesuffix(suffix): name for name in arrays if name.startswith(prefix)}
    return {int(part): arrays[name] for part, name in sorted(parts.items()) if part.isdigit() and name.endswith(suffix)}


def _read(path: Path) -> tuple[Arrays, list[TaskForecast]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    remedy = f"delete it and run `snakemake --cores all {path}`"
    try:
        arrays = load_file(path)
        check_bytes(path, remedy)
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); {remedy}") from error
    measures_path = path.with_name(KernelMeasures.file_name)
    if not measures_path.exists():
        return arrays, []
    measures = parsed(KernelMeasures, read_json(measures_path), measures_path, remedy)
    coupling = {"coupling": np.array(measures.coupling)} if measures.coupling else {}
    return coupling | arrays, measures.forecast or []
