"""The finished runs of a study that are compared, and summaries of their measures.

A condition is a dataset with a backbone, named "DATASET/BACKBONE".
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TypeVar

import numpy as np

from ntkcl.metrics.statistics import summary
from ntkcl.reporting.run_results import KernelMeasures, PerTask, RunMetrics
from ntkcl.reporting.study_metrics import Summary
from ntkcl.runs import run_folder
from ntkcl.settings.studies import Study

Value = TypeVar("Value")


@dataclass(frozen=True)
class Results:
    """The finished runs of a study, by folder: their metrics, and the kernels of measured runs."""

    study: Study
    metrics: dict[Path, RunMetrics]
    kernels: dict[Path, KernelMeasures]

    @property
    def conditions(self) -> list[str]:
        """All conditions, in the study's order."""
        return [f"{dataset}/{backbone}" for dataset, backbone in product(self.study.datasets, self.study.backbones)]

    def by_condition(self, value: Callable[[str], Value]) -> dict[str, Value]:
        """Return `value` of each condition, by its name."""
        return {condition: value(condition) for condition in self.conditions}

    def folders(self, condition: str, variant: str) -> list[Path]:
        """Return the folders of a variant's runs, one a seed, finished or not."""
        return [run_folder(*condition.split("/"), variant, seed) for seed in self.study.seeds]

    def kernels_of(self, condition: str, variant: str) -> list[KernelMeasures]:
        """Return the measured kernels of a variant."""
        return [self.kernels[folder] for folder in self.folders(condition, variant) if folder in self.kernels]


def measures_by_task(kernel: KernelMeasures) -> dict[str, PerTask]:
    """Return the measures of a run, task by task; a comparison with later tasks has no value for the last one."""
    gaps = kernel.gaps
    values: dict[str, PerTask | None] = {
        "task_specific_gap": gaps.task_specific_gap,
        "complexity": kernel.complexity,
        "rademacher": kernel.rademacher,
        "effective_dimension": kernel.effective_dimension,
        "trace": kernel.trace,
    }
    with_later: dict[str, PerTask | None] = {
        "task_interplay_gap": gaps.task_interplay_gap,
        "same_classes_gap": gaps.same_classes_gap,
        "drift": kernel.drift,
        "alignment": kernel.alignment,
        "complexity_end": kernel.complexity_end,
    }
    for name in ("coupling", "overlap"):
        if matrix := getattr(kernel, name):
            values[name] = [mean_of_known(row[:i] + row[i + 1 :]) for i, row in enumerate(matrix)]
            with_later[f"{name}_later"] = [mean_of_known(row[i + 1 :]) for i, row in enumerate(matrix)]
    values |= {name: row[:-1] for name, row in with_later.items() if row}
    return {name: row for name, row in values.items() if row}


def summary_of_known(values: Iterable[float | None]) -> Summary | None:
    """Summarize the values that are not None, if there are any."""
    known = [value for value in values if value is not None]
    return Summary(**summary(known)) if known else None


def mean_of_known(values: Iterable[float | None]) -> float | None:
    """Return the mean of the values that are not None, if there are any."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
