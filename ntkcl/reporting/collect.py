"""The metrics of a study's runs in one file: the only source of its tables and figures.

It reads the folders of the runs and resolves no settings: that would load the learners, and torch.
"""

from collections import defaultdict
from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import TypeVar

import numpy as np

from ntkcl.errors import UserError
from ntkcl.metrics.statistics import summary
from ntkcl.reporting.digest import report_digest
from ntkcl.reporting.expected_numbers import expected_ranges
from ntkcl.reporting.json_files import parsed
from ntkcl.reporting.paper_numbers import paper_tables
from ntkcl.reporting.run_results import RunMetrics, RunResult
from ntkcl.reporting.study_metrics import (
    REPORTS,
    AccuracyCurve,
    PaperTable,
    Provenance,
    ReproducedTable,
    StudyMetrics,
    Summary,
    VariantSummary,
)
from ntkcl.runs import run_folder, variant_label
from ntkcl.settings.files import load_backbone, load_dataset, load_method, load_study
from ntkcl.settings.studies import Study
from ntkcl.storage.files import read_json, write_sealed_json

METRICS = ("average_accuracy", "final_accuracy", "forgetting", "backward_transfer", "learning_accuracy")
NAMED_FOLDERS = 3  # folders that a message names; further ones are counted

Result = TypeVar("Result", bound=RunResult)


def aggregate(
    study_name: str, digests: dict[Path, str] | None = None, *, unfinished: bool = False, reports: Path = REPORTS
) -> StudyMetrics:
    """Collect the metrics of a study's runs, summarize them over seeds and write `reports/metrics.json`.

    Args:
        study_name: the study.
        digests: the current digest of each run's folder, to refuse runs of other settings.
        unfinished: the study is still running: a run of other settings counts as missing.
        reports: folder that `metrics.json` is written to.

    Returns:
        The content of `metrics.json`.

    Raises:
        UserError: no run has finished (unless there are published numbers to show), runs of one dataset used different
            splits or different images, or a run has another number of tasks than its dataset.
    """
    study = load_study(study_name)
    folders = [
        run_folder(*names) for names in product(study.datasets, study.backbones, study.table_variants, study.seeds)
    ]
    found = finished(folders, RunMetrics, digests or {}, unfinished)
    paper = paper_tables(study, study_name)
    if not found and not paper:
        raise UserError(f"no run of study '{study_name}' has metrics, e.g. {folders[0]}/metrics.json; run it first")
    summaries = _summaries(study, found)
    splits = _same_in_all({folder: run.data.split for folder, run in found.items()}, found, "splits of its images")
    _same_in_all({folder: run.data.content for folder, run in found.items()}, found, "images")
    content = StudyMetrics(
        study=study_name,
        title=study.title,
        report_digest=report_digest(study),
        seeds=study.seeds,
        provenance=provenance_of(found.values()),
        runs=list(found.values()),
        missing=[str(folder.relative_to("runs")) for folder in folders if folder not in found],
        splits=splits,
        paper=[_with_provenance(table, found.values()) for table in paper],
        expected=expected_ranges(study),
        summaries=summaries,
        means=_means(summaries),
    )
    write_sealed_json(reports / "metrics.json", content.model_dump(mode="json"))
    return content


def finished(folders: list[Path], kind: type[Result], digests: dict[Path, str], unfinished: bool) -> dict[Path, Result]:
    """Read the file of a `kind` of those runs that have it, by folder.

    Raises:
        UserError: a file does not fit its model, or a run has other settings (unless `unfinished`: then it is left
            out).
    """
    paths = {folder: path for folder in folders if (path := folder / kind.file_name).exists()}
    contents = {folder: read_json(path) for folder, path in paths.items()}
    old = [folder for folder, content in contents.items() if digests and content.get("digest") != digests[folder]]
    if old and not unfinished:
        raise UserError(f"{old[0]} was computed with other settings; run `snakemake --cores all {paths[old[0]]}`")
    return {
        folder: parsed(kind, content, paths[folder], f"delete it and run `snakemake --cores all {paths[folder]}`")
        for folder, content in contents.items()
        if folder not in old
    }


def provenance_of(runs: Iterable[RunResult]) -> Provenance:
    """Devices, commits, lock files and package versions of all `runs`."""
    parts = [part for run in runs for part in run.provenance]
    packages = sorted({package for part in parts for package in part.versions})
    return Provenance(
        devices=sorted({part.device for part in parts}),
        commits=sorted({part.commit for part in parts}),
        locks=sorted({part.lock for part in parts if part.lock}),
        versions={
            package: sorted({part.versions[package] for part in parts if package in part.versions})
            for package in packages
        },
    )


def _with_provenance(table: PaperTable, runs: Iterable[RunMetrics]) -> ReproducedTable:
    """Add the provenance of the runs whose numbers are in the table."""
    used = [run for run in runs if run.run.backbone == table.backbone and run.run.dataset in table.datasets]
    return ReproducedTable(**dict(table), provenance=provenance_of(used))


def _same_in_all(digests: dict[Path, str], found: dict[Path, RunMetrics], subject: str) -> dict[str, str]:
    """Return the digest of each dataset's runs, which must be the same in all of them.

    Raises:
        UserError: runs of one dataset used different ones of the `subject` of the digest.
    """
    folders: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for folder, digest in digests.items():
        folders[found[folder].run.dataset][digest].append(folder)
    for dataset, by_digest in folders.items():
        if len(by_digest) > 1:
            sides = "; ".join(f"{digest[:12]} in {_first_folders(runs)}" for digest, runs in by_digest.items())
            raise UserError(
                f"runs of dataset '{dataset}' used different {subject}, so no mean is taken over them ({sides}); "
                "delete the folders of all but one and run the study again"
            )
    return {dataset: next(iter(by_digest)) for dataset, by_digest in folders.items()}


def _first_folders(folders: list[Path]) -> str:
    rest = len(folders) - NAMED_FOLDERS
    return ", ".join([*map(str, folders[:NAMED_FOLDERS]), *([f"{rest} more"] if rest > 0 else [])])


def _summaries(study: Study, found: dict[Path, RunMetrics]) -> list[VariantSummary]:
    summaries = []
    for names in product(study.datasets, study.backbones, study.table_variants):
        folders = [run_folder(*names, seed) for seed in study.seeds]
        summaries.append(_summarize(*names, [found[folder] for folder in folders if folder in found]))
    return summaries


def _summarize(dataset_name: str, backbone: str, variant: str, runs: list[RunMetrics]) -> VariantSummary:
    """Summarize one variant over its seeds."""
    dataset, method = load_dataset(dataset_name), load_method(variant.partition("/")[0])
    return VariantSummary(
        dataset=dataset_name,
        dataset_label=dataset.label,
        dataset_note=dataset.note,
        task_sizes=dataset.task_sizes,
        backbone=backbone,
        backbone_label=load_backbone(backbone).label,
        variant=variant,
        label=variant_label(method, variant),
        method_label=method.published_as or method.label,
        method_note=method.note,
        protocol=method.protocol,
        seeds=[run.run.seed for run in runs],
        metrics={name: _summary_of([getattr(run.metrics, name) for run in runs]) for name in METRICS},
        accuracy=_mean_curve(np.array([_curve(run, len(dataset.task_sizes)) for run in runs])),
    )


def _mean_curve(curves: np.ndarray) -> AccuracyCurve:
    """Mean and deviation over runs of curves (runs, tasks)."""
    return AccuracyCurve(
        mean=curves.mean(axis=0).tolist() if len(curves) else None,
        std=curves.std(axis=0, ddof=1).tolist() if len(curves) > 1 else None,
    )


def _curve(run: RunMetrics, tasks: int) -> list[float]:
    """A_t of a run that may be left over from another division into tasks."""
    if len(run.metrics.accuracy) != tasks:
        name = f"{run.run.dataset}/{run.run.backbone}/{run.run.variant}/seed{run.run.seed}"
        raise UserError(
            f"runs/{name} has {len(run.metrics.accuracy)} tasks, the dataset now {tasks}; run the study again"
        )
    return run.metrics.accuracy


def _means(summaries: list[VariantSummary]) -> dict[str, dict[str, float]]:
    """The mean of each metric by run and name: `dvc metrics` prints mappings, and skips lists."""
    return {
        f"{row.dataset}/{row.backbone}/{row.variant}": {
            name: metric.mean for name, metric in row.metrics.items() if metric
        }
        for row in summaries
    }


def _summary_of(values: list[float | None]) -> Summary | None:
    present = [value for value in values if value is not None]
    return Summary(**summary(present)) if present else None
