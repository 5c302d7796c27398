"""What a study's ablations, sweeps and kernels say together: `reports/analysis.json`, for their tables and figures.

Like `ntkcl.reporting.collect`, it reads what lies in the runs' folders and resolves no settings.
"""

from collections.abc import Callable, Iterable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from ntkcl.errors import UserError
from ntkcl.metrics.statistics import mean_over, paired_difference, spearman, summary
from ntkcl.reporting.collect import REPORTS, finished, provenance_of
from ntkcl.runs import run_folder, variant_change, variant_label
from ntkcl.settings.files import load_backbone, load_dataset, load_method, load_study
from ntkcl.settings.studies import Study
from ntkcl.storage.files import write_json

ACCURACIES = ("average_accuracy", "final_accuracy", "forgetting")
GAPS = {  # what is ranked, in words, and the terms that are held against it
    "task_specific_gap": ("Gap when learned", ("complexity", "rademacher", "effective_dimension")),
    "task_interplay_gap": ("Gap by later tasks", ("complexity_end", "drift", "coupling_later", "overlap_later")),
    "same_classes_gap": (
        "Gap by later tasks, among the same classes",
        ("complexity_end", "drift", "coupling_later", "overlap_later"),
    ),
}
TERMS = {
    "complexity": "complexity",
    "rademacher": "complexity times root mean K(x, x)",
    "effective_dimension": "effective dimension",
    "complexity_end": "complexity at the end",
    "drift": "drift of the task's kernel",
    "coupling_later": "coupling with later tasks",
    "overlap_later": "overlap of its features with later tasks'",
}

Setting = tuple[str, str]
"""A dataset and a backbone."""

Runs = dict[Path, dict[str, Any]]
"""What the runs' files hold, by folder."""


def compare(
    study_name: str, digests: dict[Path, str] | None = None, *, unfinished: bool = False, reports: Path = REPORTS
) -> dict[str, Any]:
    """Gather ablations, sweeps and kernels of a study and write `reports/analysis.json`.

    Args:
        study_name: a study that has any of these.
        digests: the present digest of each run's folder, to refuse runs of other settings.
        unfinished: the study is still running: a run of other settings counts as missing.
        reports: where it is written.

    Raises:
        UserError: the study compares nothing, or no run of its reference has finished.
    """
    study = load_study(study_name)
    if not study.reference:
        raise UserError(
            f"study '{study_name}' has no reference, ablations or sweeps; `ntkcl report aggregate` is enough"
        )
    folders = [_folder(*names) for names in product(_settings(study), study.every_variant, study.seeds)]
    found = finished(folders, digests or {}, unfinished)
    references = [_folder(setting, study.reference, seed) for setting in _settings(study) for seed in study.seeds]
    if not found.keys() & set(references):
        raise UserError(
            f"no run of {study.reference}, the reference of study '{study_name}', has metrics, e.g. "
            f"{references[0]}/metrics.json; run it first"
        )
    kernels = finished(folders, digests or {}, unfinished, "kernel.json")
    content = {
        "study": study_name,
        "title": study.title,
        "seeds": study.seeds,
        "reference": study.reference,
        "reference_label": _label(study.reference),
        "provenance": provenance_of([*found.values(), *kernels.values()]),
        "how": next((kernel["how"] for kernel in kernels.values()), None),
        "settings": [_described(setting) for setting in _settings(study)],
        "reference_cells": _by_setting(study, lambda setting: _cells(study, setting, study.reference, found, kernels)),
        "ablations": [_ablation(study, group.title, group.variants, found) for group in study.ablations],
        "sweeps": _sweeps(study, found, kernels),
        "methods": [_method(study, variant, found, kernels) for variant in study.kernels],
        "ranking": [
            _ranking(study, setting, gap, term, kernels)
            for setting in _settings(study)
            for gap, (_, terms) in GAPS.items()
            for term in terms
        ],
        "forecast": [_forecast(study, s, v, kernels) for s in _settings(study) for v in study.kernels],
        "examples": _by_setting(study, lambda setting: _examples(study, setting, kernels)),
    }
    write_json(reports / "analysis.json", content)
    return content


def _settings(study: Study) -> list[Setting]:
    return list(product(study.datasets, study.backbones))


def _name(setting: Setting) -> str:
    return "/".join(setting)


def _folder(setting: Setting, variant: str, seed: int) -> Path:
    return run_folder(*setting, variant, seed)


def _by_setting(study: Study, value: Callable[[Setting], Any]) -> dict[str, Any]:
    return {_name(setting): value(setting) for setting in _settings(study)}


def _label(variant: str) -> str:
    return variant_label(load_method(variant.partition("/")[0]), variant)


def _change_label(variant: str) -> str:
    """What a variant changes, in words."""
    return variant_change(load_method(variant.partition("/")[0]), variant)


def _described(setting: Setting) -> dict[str, Any]:
    dataset, backbone = load_dataset(setting[0]), load_backbone(setting[1])
    labels = {"label": dataset.label, "backbone_label": backbone.label, "note": dataset.note}
    return {"name": _name(setting), "tasks": len(dataset.task_sizes)} | labels


def _ablation(study: Study, title: str, variants: list[str], found: Runs) -> dict[str, Any]:
    """One group of the ablation table."""
    rows = [
        {
            "variant": variant,
            "label": _change_label(variant),
            "cells": _by_setting(study, lambda setting, variant=variant: _differences(study, setting, variant, found)),
        }
        for variant in variants
    ]
    return {"title": title, "rows": rows}


def _differences(study: Study, setting: Setting, variant: str, found: Runs) -> dict[str, Any]:
    """What a variant changes, over the seeds that it and the reference have."""
    pairs = [
        (found[own]["metrics"], found[other]["metrics"])
        for seed in study.seeds
        if (own := _folder(setting, variant, seed)) in found
        and (other := _folder(setting, study.reference, seed)) in found
    ]
    return {
        name: paired_difference([own[name] for own, _ in pairs], [other[name] for _, other in pairs]) if pairs else None
        for name in ACCURACIES
    }


def _method(study: Study, variant: str, found: Runs, kernels: Runs) -> dict[str, Any]:
    cells = _by_setting(study, lambda setting: _cells(study, setting, variant, found, kernels))
    return {"variant": variant, "label": _label(variant), "cells": cells}


def _sweeps(study: Study, found: Runs, kernels: Runs) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "title": sweep.title,
            "axis": sweep.axis,
            "points": [
                {
                    "variant": variant,
                    "value": value,
                    "cells": _by_setting(study, lambda s, variant=variant: _cells(study, s, variant, found, kernels)),
                }
                for variant, value in sweep.points.items()
            ],
        }
        for name, sweep in study.sweeps.items()
    ]


def _cells(study: Study, setting: Setting, variant: str, found: Runs, kernels: Runs) -> dict[str, Any]:
    """Accuracies, gaps and kernel measures of a variant: summaries over seeds of each run's mean over tasks."""
    folders = [_folder(setting, variant, seed) for seed in study.seeds]
    metrics = [found[folder]["metrics"] for folder in folders if folder in found]
    inside = [_of_run(kernels[folder]) for folder in folders if folder in kernels]
    names = dict.fromkeys(name for values in inside for name in values)
    cells = {name: _summary(values[name] for values in metrics) for name in ACCURACIES}
    return cells | {name: _summary(values.get(name) for values in inside) for name in names}


def _of_run(kernel: dict[str, Any]) -> dict[str, float | None]:
    """The measures of a run, each a mean over the tasks that it has a meaning for."""
    return {name: _mean(values) for name, values in _by_task(kernel).items()}


def _by_task(kernel: dict[str, Any]) -> dict[str, list[float | None]]:
    """The measures of a run, task by task; what compares a task with later ones stops before the last."""
    gaps = kernel["gaps"]
    of_old = {name: gaps[name][:-1] for name in ("task_interplay_gap", "same_classes_gap")}
    of_old |= {name: kernel[name][:-1] for name in ("drift", "alignment", "complexity_end") if name in kernel}
    of_all = {"task_specific_gap": gaps["task_specific_gap"]}
    names = ("complexity", "rademacher", "effective_dimension", "trace")
    of_all |= {name: kernel[name] for name in names if name in kernel}
    for name in ("coupling", "overlap"):
        if matrix := kernel.get(name):
            of_all[name] = [_mean(row[:i] + row[i + 1 :]) for i, row in enumerate(matrix)]
            of_old[f"{name}_later"] = [_mean(row[i + 1 :]) for i, row in enumerate(matrix[:-1])]
    return of_all | of_old


def _ranking(study: Study, setting: Setting, gap: str, term: str, kernels: Runs) -> dict[str, Any]:
    """How well a term ranks a gap, over the tasks of all measured variants of the method, seed by seed.

    `rho` is over variants and tasks together, `within` the mean over tasks of that over variants alone.
    """
    method, pooled, within, points = study.reference.partition("/")[0], [], [], []
    variants = [variant for variant in study.measured if variant.partition("/")[0] == method]
    for seed in study.seeds:
        folders = (_folder(setting, variant, seed) for variant in variants)
        pairs = [_pairs(_by_task(kernels[folder]), term, gap) for folder in folders if folder in kernels]
        flat = [pair for of_run in pairs for pair in of_run.values()]
        pooled.append(_rho(flat))
        within.append(
            _mean(_rho([of_run[t] for of_run in pairs if t in of_run]) for t in range(len(pairs[0]))) if pairs else None
        )
        points += flat
    names = {"setting": _name(setting), "gap": gap, "gap_label": GAPS[gap][0], "term": term, "term_label": TERMS[term]}
    return names | _over_seeds(pooled) | {"within": _over_seeds(within), "points": points}


def _pairs(values: dict[str, list[float | None]], term: str, gap: str) -> dict[int, list[float]]:
    """Term and gap of the tasks of a run that have both."""
    both = enumerate(zip(values.get(term, []), values.get(gap, []), strict=False))
    return {task: [x, y] for task, (x, y) in both if x is not None and y is not None}


def _rho(points: list[list[float]]) -> float | None:
    return spearman([x for x, _ in points], [y for _, y in points])


def _over_seeds(values: list[float | None]) -> dict[str, Any]:
    """Correlations, one a seed: their mean as `rho`, and its interval, as far as correlations go."""
    present = [value for value in values if value is not None]
    found = mean_over(present) if present else {"mean": None, "low": None, "high": None, "n": 0}
    ends = {end: None if found[end] is None else min(1.0, max(-1.0, found[end])) for end in ("low", "high")}
    return {"rho": found["mean"], "n": found["n"]} | ends


def _forecast(study: Study, setting: Setting, variant: str, kernels: Runs) -> dict[str, Any]:
    """How well the forecasts of one variant agree with what came: of scores, and of the accuracy that is lost."""
    folders = [_folder(setting, variant, seed) for seed in study.seeds]
    runs = {folder: kernels[folder]["forecast"] for folder in folders if "forecast" in kernels.get(folder, {})}
    names = ("correlation", "correlation_in_all", "slope")
    cells = {name: _summary(_mean(task[name] for task in tasks) for tasks in runs.values()) for name in names}
    drops = [[[task["drop_forecast"], task["drop_measured"]] for task in tasks] for tasks in runs.values()]
    found = _over_seeds([_rho(of_run) for of_run in drops]) | {"points": [pair for of_run in drops for pair in of_run]}
    return {"setting": _name(setting), "variant": variant, "label": _label(variant)} | cells | {"drops": found}


def _examples(study: Study, setting: Setting, kernels: Runs) -> dict[str, str]:
    """For each variant the arrays of its first run that was measured."""
    examples = {}
    for variant, seed in product(study.kernels, study.seeds):
        folder = _folder(setting, variant, seed)
        if folder in kernels and variant not in examples:
            examples[variant] = str(folder / "kernel.safetensors")
    return examples


def _summary(values: Iterable[float | None]) -> dict[str, Any] | None:
    present = [value for value in values if value is not None]
    return summary(present) if present else None


def _mean(values: Iterable[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return float(np.mean(present)) if present else None
