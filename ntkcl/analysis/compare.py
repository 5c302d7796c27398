"""Comparison of a study's variants, over ablations, sweeps and kernels: `reports/analysis.json`.

Like `ntkcl.reporting.collect`, it reads the folders of the runs and resolves no settings.
"""

from itertools import product
from pathlib import Path

from ntkcl.analysis.ranking import forecast_agreement, rank_gaps
from ntkcl.analysis.results import Results, mean_of_known, measures_by_task, summary_of_known
from ntkcl.errors import UserError
from ntkcl.metrics.statistics import paired_difference
from ntkcl.reporting.collect import finished, provenance_of
from ntkcl.reporting.run_results import KernelMeasures, RunMetrics
from ntkcl.reporting.study_comparison import (
    AblationGroup,
    AblationRow,
    Condition,
    Difference,
    MeasuredVariant,
    StudyComparison,
    Summaries,
    SweepPoint,
    SweepResult,
)
from ntkcl.reporting.study_metrics import REPORTS
from ntkcl.runs import run_folder, variant_change, variant_label
from ntkcl.settings.files import load_backbone, load_dataset, load_method, load_study
from ntkcl.settings.studies import Ablation, Study, Sweep
from ntkcl.storage.files import write_sealed_json

ACCURACIES = ("average_accuracy", "final_accuracy", "forgetting")


def compare(
    study_name: str, digests: dict[Path, str] | None = None, *, unfinished: bool = False, reports: Path = REPORTS
) -> StudyComparison:
    """Compare the variants of a study, collect its kernel measures, and write `reports/analysis.json`.

    Args:
        study_name: a study with a reference.
        digests: the current digest of each run's folder, to refuse runs of other settings.
        unfinished: the study is still running: a run of other settings counts as missing.
        reports: folder that `analysis.json` is written to.

    Raises:
        UserError: the study has no reference, or no run of the reference has finished.
    """
    study = load_study(study_name)
    if not study.reference:
        raise UserError(
            f"study '{study_name}' has no reference, ablations or sweeps; `ntkcl report aggregate` is enough"
        )
    results = _results(study, study_name, digests or {}, unfinished)
    kernels = results.kernels.values()
    content = StudyComparison(
        study=study_name,
        title=study.title,
        seeds=study.seeds,
        reference=study.reference,
        reference_label=_label(study.reference),
        provenance=provenance_of([*results.metrics.values(), *kernels]),
        how=next((kernel.how for kernel in kernels), None),
        conditions=[_described(condition) for condition in results.conditions],
        reference_cells=_cells(results, study.reference),
        ablations=[_ablation(results, group) for group in study.ablations],
        sweeps=[_sweep(results, name, sweep) for name, sweep in study.sweeps.items()],
        methods=[
            MeasuredVariant(variant=variant, label=_label(variant), cells=_cells(results, variant))
            for variant in study.kernels
        ],
        ranking=rank_gaps(results),
        forecast=[
            forecast_agreement(results, condition, variant, _label(variant))
            for condition in results.conditions
            for variant in study.kernels
        ],
        examples=results.by_condition(lambda condition: _examples(results, condition)),
    )
    write_sealed_json(reports / "analysis.json", content.model_dump(mode="json"))
    return content


def _results(study: Study, name: str, digests: dict[Path, str], unfinished: bool) -> Results:
    runs = product(study.datasets, study.backbones, study.every_variant, study.seeds)
    folders = [run_folder(*names) for names in runs]
    metrics = finished(folders, RunMetrics, digests, unfinished)
    results = Results(study, metrics, finished(folders, KernelMeasures, digests, unfinished))
    references = [folder for c in results.conditions for folder in results.folders(c, study.reference)]
    if not metrics.keys() & set(references):
        raise UserError(
            f"no run of {study.reference}, the reference of study '{name}', has metrics, e.g. "
            f"{references[0]}/metrics.json; run it first"
        )
    return results


def _label(variant: str) -> str:
    return variant_label(load_method(variant.partition("/")[0]), variant)


def _described(name: str) -> Condition:
    dataset, backbone = name.split("/")
    return Condition(
        name=name,
        label=load_dataset(dataset).label,
        backbone_label=load_backbone(backbone).label,
        note=load_dataset(dataset).note,
        tasks=len(load_dataset(dataset).task_sizes),
    )


def _ablation(results: Results, group: Ablation) -> AblationGroup:
    rows = [
        AblationRow(
            variant=variant,
            label=variant_change(load_method(variant.partition("/")[0]), variant),
            cells=results.by_condition(lambda condition, variant=variant: _differences(results, condition, variant)),
        )
        for variant in group.variants
    ]
    return AblationGroup(title=group.title, rows=rows)


def _differences(results: Results, condition: str, variant: str) -> dict[str, Difference | None]:
    """Differences to the reference over the seeds that both have."""
    folders = zip(results.folders(condition, variant), results.folders(condition, results.study.reference), strict=True)
    pairs = [
        (results.metrics[own].metrics, results.metrics[other].metrics)
        for own, other in folders
        if own in results.metrics and other in results.metrics
    ]
    return {name: _difference([(getattr(a, name), getattr(b, name)) for a, b in pairs]) for name in ACCURACIES}


def _difference(pairs: list[tuple[float, float]]) -> Difference | None:
    return Difference(**paired_difference(*zip(*pairs, strict=True))) if pairs else None


def _sweep(results: Results, name: str, sweep: Sweep) -> SweepResult:
    points = [
        SweepPoint(variant=variant, value=value, cells=_cells(results, variant))
        for variant, value in sweep.points.items()
    ]
    return SweepResult(name=name, title=sweep.title, axis=sweep.axis, points=points)


def _cells(results: Results, variant: str) -> dict[str, Summaries]:
    """Accuracies, gaps and kernel measures of a variant, by condition."""
    return results.by_condition(lambda condition: _summaries(results, condition, variant))


def _summaries(results: Results, condition: str, variant: str) -> Summaries:
    """Summaries over seeds of accuracies, and of each run's mean over the tasks for which a measure is defined."""
    folders = results.folders(condition, variant)
    metrics = [results.metrics[folder].metrics for folder in folders if folder in results.metrics]
    kernels = [measures_by_task(kernel) for kernel in results.kernels_of(condition, variant)]
    means = [{name: mean_of_known(values) for name, values in kernel.items()} for kernel in kernels]
    summaries = {name: summary_of_known(getattr(run, name) for run in metrics) for name in ACCURACIES}
    names = dict.fromkeys(name for run in means for name in run)
    return summaries | {name: summary_of_known(run.get(name) for run in means) for name in names}


def _examples(results: Results, condition: str) -> dict[str, str]:
    """The arrays of each variant's first measured seed."""
    examples = {}
    for variant in results.study.kernels:
        measured = [folder for folder in results.folders(condition, variant) if folder in results.kernels]
        if measured:
            examples[variant] = str(measured[0] / "kernel.safetensors")
    return examples
