"""The metrics of all runs of a study in one file: the only source of its tables and figures.

It reads what lies in the runs' folders and never resolves settings: that would load the learners, and torch.
"""

from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from ntkcl.config import load_backbone, load_dataset, load_method, load_study, report_digest, run_folder, variant_label
from ntkcl.errors import UserError
from ntkcl.files import read_json, write_json
from ntkcl.metrics import summary
from ntkcl.settings import Study

METRICS = ("average_accuracy", "final_accuracy", "forgetting", "backward_transfer", "learning_accuracy")

REPORTS = Path("reports")


def aggregate(study_name: str, digests: dict[Path, str] | None = None, reports: Path = REPORTS) -> dict[str, Any]:
    """Gather the metrics of a study's runs, summarize them over seeds and write `reports/metrics.json`.

    Args:
        study_name: the study.
        digests: the present digest of each run's folder, to refuse runs of other settings.
        reports: where `metrics.json` is written.

    Returns:
        What was written: `study`, `title`, `seeds`, `provenance`, `runs` (the content of each `metrics.json`),
        `missing` (names of runs that have none), `summaries`, one for each (dataset, backbone, variant) in the study's
        order, see `_summarize`, and `means`, the same means by name.

    Raises:
        UserError: no run has finished, or one was made for another number of tasks.
    """
    study = load_study(study_name)
    folders = [run_folder(*names) for names in product(study.datasets, study.backbones, study.variants, study.seeds)]
    found = {folder: read_json(folder / "metrics.json") for folder in folders if (folder / "metrics.json").exists()}
    for folder, run in found.items():
        if digests and run["digest"] != digests[folder]:
            raise UserError(f"{folder} was made with other settings; run `snakemake --cores all {folder}/metrics.json`")
    if not found:
        raise UserError(f"no run of study '{study_name}' has metrics, e.g. {folders[0]}/metrics.json; run it first")
    summaries = _summaries(study, found)
    content = {
        "study": study_name,
        "title": study.title,
        "words": report_digest(study),
        "seeds": study.seeds,
        "provenance": _provenance(part for run in found.values() for part in run["provenance"]),
        "runs": list(found.values()),
        "missing": [str(folder.relative_to("runs")) for folder in folders if folder not in found],
        "summaries": summaries,
        "means": _means(summaries),
    }
    write_json(reports / "metrics.json", content)
    return content


def _provenance(parts: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """What the runs were made with: sorted distinct devices and commits, and for each package its versions."""
    parts = list(parts)
    packages = sorted({package for part in parts for package in part["versions"]})
    return {
        "devices": sorted({part["device"] for part in parts}),
        "commits": sorted({part["commit"] for part in parts}),
        "versions": {
            package: sorted({part["versions"][package] for part in parts if package in part["versions"]})
            for package in packages
        },
    }


def _summaries(study: Study, found: dict[Path, dict[str, Any]]) -> list[dict[str, Any]]:
    summaries = []
    for names in product(study.datasets, study.backbones, study.variants):
        folders = [run_folder(*names, seed) for seed in study.seeds]
        summaries.append(_summarize(*names, [found[folder] for folder in folders if folder in found]))
    return summaries


def _summarize(dataset: str, backbone: str, variant: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """One variant over its seeds: names and labels, `seeds` that are there, `metrics` and `accuracy` (A_t).

    Each metric is a `ntkcl.metrics.summary`, or None where nothing was run or the metric has no meaning.
    """
    method = load_method(variant.partition("/")[0])
    curves = np.array([_curve(run, len(load_dataset(dataset).task_sizes)) for run in runs])
    return {
        "dataset": dataset,
        "dataset_label": load_dataset(dataset).label,
        "dataset_note": load_dataset(dataset).note,
        "task_sizes": load_dataset(dataset).task_sizes,
        "backbone": backbone,
        "backbone_label": load_backbone(backbone).label,
        "variant": variant,
        "label": variant_label(method, variant),
        "protocol": method.protocol,
        "seeds": [run["run"]["seed"] for run in runs],
        "metrics": {name: _summary_of([run["metrics"][name] for run in runs]) for name in METRICS},
        "accuracy": {
            "mean": curves.mean(axis=0).tolist() if len(runs) else None,
            "std": curves.std(axis=0, ddof=1).tolist() if len(runs) > 1 else None,
        },
    }


def _means(summaries: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """The mean of each metric by run and name: what `dvc metrics show` and `diff` print, which skip lists."""
    return {
        "{dataset}/{backbone}/{variant}".format(**summary): {
            name: metric["mean"] for name, metric in summary["metrics"].items() if metric
        }
        for summary in summaries
    }


def _summary_of(values: list[float | None]) -> dict[str, Any] | None:
    present = [value for value in values if value is not None]
    return summary(present) if present else None


def _curve(run: dict[str, Any], tasks: int) -> list[float]:
    """A_t of a run that may be left over from another division into tasks."""
    curve = run["metrics"]["accuracy"]
    if len(curve) != tasks:
        name = "{dataset}/{backbone}/{variant}/seed{seed}".format(**run["run"])
        raise UserError(f"runs/{name} has {len(curve)} tasks, the dataset now {tasks}; run the study again")
    return curve
