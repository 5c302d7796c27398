"""The metrics of all runs of a study in one file: the only source of its tables and figures.

It reads what lies in the runs' folders and never resolves settings: that would load the learners, and torch.
"""

from collections import defaultdict
from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from ntkcl.errors import UserError
from ntkcl.metrics.statistics import summary
from ntkcl.reporting.paper_numbers import paper_tables
from ntkcl.runs import run_folder, variant_label
from ntkcl.settings.digest import digest_of
from ntkcl.settings.files import PARAMS, load_backbone, load_dataset, load_method, load_study
from ntkcl.settings.studies import Study
from ntkcl.storage.files import read_json, write_json

METRICS = ("average_accuracy", "final_accuracy", "forgetting", "backward_transfer", "learning_accuracy")

REPORTS = Path("reports")


def aggregate(
    study_name: str, digests: dict[Path, str] | None = None, *, unfinished: bool = False, reports: Path = REPORTS
) -> dict[str, Any]:
    """Gather the metrics of a study's runs, summarize them over seeds and write `reports/metrics.json`.

    Args:
        study_name: the study.
        digests: the present digest of each run's folder, to refuse runs of other settings.
        unfinished: the study is still running: a run of other settings counts as missing, it will be made anew.
        reports: where `metrics.json` is written.

    Returns:
        What was written: `study`, `title`, `seeds`, `provenance`, `runs` (the content of each `metrics.json`),
        `missing` (names of runs that have none), `splits` (digests by dataset, where runs recorded them), `paper` (see
        `ntkcl.reporting.paper_numbers.paper_tables`, with the `provenance` of its runs), `summaries`, one for each
        (dataset, backbone, variant) in the study's order, see `_summarize`, and `means`, the same means by name.

    Raises:
        UserError: no run has finished (unless published numbers are there to show), runs of one dataset saw different
            splits or different images, or a run was made for another number of tasks.
    """
    study = load_study(study_name)
    folders = [
        run_folder(*names) for names in product(study.datasets, study.backbones, study.table_variants, study.seeds)
    ]
    found = finished(folders, digests or {}, unfinished)
    paper = paper_tables(study, study_name)
    if not found and not paper:
        raise UserError(f"no run of study '{study_name}' has metrics, e.g. {folders[0]}/metrics.json; run it first")
    content = {"study": study_name, "paper": [_with_provenance(table, found.values()) for table in paper]}
    content |= _of_study(study, found) | {
        "runs": list(found.values()),
        "missing": [str(folder.relative_to("runs")) for folder in folders if folder not in found],
    }
    write_json(reports / "metrics.json", content)
    return content


def report_digest(study: Study) -> str:
    """Names what tables and figures take from the settings: titles, labels, notes, and the published numbers."""
    methods = [load_method(variant.partition("/")[0]) for variant in study.table_variants]
    datasets = [load_dataset(name) for name in study.datasets]
    return digest_of(
        study,
        [[method.label, method.protocol] for method in methods],
        [[dataset.label, dataset.note, dataset.task_sizes] for dataset in datasets],
        [load_backbone(name).label for name in study.backbones],
        *([(PARAMS / study.published).read_text()] if study.published and (PARAMS / study.published).is_file() else []),
    )


def finished(
    folders: list[Path], digests: dict[Path, str], unfinished: bool, name: str = "metrics.json"
) -> dict[Path, dict[str, Any]]:
    """What stands in the file `name` of those runs that have it, by folder.

    Raises:
        UserError: a run was made with other settings, unless `unfinished`: then it is left out.
    """
    found = {folder: read_json(folder / name) for folder in folders if (folder / name).exists()}
    old = [folder for folder, run in found.items() if digests and run["digest"] != digests[folder]]
    if old and not unfinished:
        raise UserError(f"{old[0]} was made with other settings; run `snakemake --cores all {old[0]}/{name}`")
    return {folder: run for folder, run in found.items() if folder not in old}


def _of_study(study: Study, found: dict[Path, dict[str, Any]]) -> dict[str, Any]:
    """What is said about the study as a whole, and its summaries."""
    summaries = _summaries(study, found)
    splits = _same_in_all(found, "split", "splits of its images")
    _same_in_all(found, "content", "images")
    return {
        "title": study.title,
        "words": report_digest(study),
        "seeds": study.seeds,
        "provenance": provenance_of(found.values()),
        "splits": splits,
        "summaries": summaries,
        "means": _means(summaries),
    }


def _with_provenance(table: dict[str, Any], runs: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """A table of the paper with what the runs were made with whose numbers stand in it."""
    names = [(dataset, table["backbone"]) for dataset in table["datasets"]]
    shown = [run for run in runs if (run["run"]["dataset"], run["run"]["backbone"]) in names]
    return table | {"provenance": provenance_of(shown)}


def _same_in_all(found: dict[Path, dict[str, Any]], digest: str, what: str) -> dict[str, str]:
    """The `digest` in each dataset's runs, which must be one; runs made before it was recorded say nothing.

    Raises:
        UserError: runs of one dataset saw different ones of `what` the digest is about.
    """
    folders: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for folder, run in found.items():
        if value := run.get("data", {}).get(digest):
            folders[run["run"]["dataset"]][value].append(folder)
    for dataset, by_value in folders.items():
        if len(by_value) > 1:
            sides = "; ".join(f"{value[:12]} in {_few(runs)}" for value, runs in by_value.items())
            raise UserError(
                f"runs of dataset '{dataset}' saw different {what}, so no mean is taken over them ({sides}); "
                "delete the folders of all but one of these and run the study again"
            )
    return {dataset: next(iter(by_value)) for dataset, by_value in folders.items()}


def _few(folders: list[Path]) -> str:
    more = [f"{len(folders) - 3} more"] if len(folders) > 3 else []
    return ", ".join([*map(str, folders[:3]), *more])


def provenance_of(runs: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """What the runs were made with: sorted distinct devices and commits, and for each package its versions."""
    parts = [part for run in runs for part in run["provenance"]]
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
    for names in product(study.datasets, study.backbones, study.table_variants):
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
        "method_label": method.label,
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
