"""Agreement of measured gaps with the terms of the theory, and of measured changes with their forecasts."""

from ntkcl.analysis.results import Results, mean_of_known, measures_by_task, summary_of_known
from ntkcl.metrics.statistics import mean_over, spearman
from ntkcl.reporting.run_results import PerTask
from ntkcl.reporting.study_comparison import Correlation, ForecastResult, GapRanking, PooledCorrelation

TERMS_BY_GAP = {
    "task_specific_gap": ("complexity", "rademacher", "effective_dimension"),
    "task_interplay_gap": ("complexity_end", "drift", "coupling_later", "overlap_later"),
    "same_classes_gap": ("complexity_end", "drift", "coupling_later", "overlap_later"),
}
GAP_LABELS = {
    "task_specific_gap": "Gap when learned",
    "task_interplay_gap": "Gap by later tasks",
    "same_classes_gap": "Gap by later tasks, among the same classes",
}
TERM_LABELS = {
    "complexity": "complexity",
    "rademacher": "complexity times root mean K(x, x)",
    "effective_dimension": "effective dimension",
    "complexity_end": "complexity at the end",
    "drift": "drift of the task's kernel",
    "coupling_later": "coupling with later tasks",
    "overlap_later": "overlap of its features with later tasks'",
}
Points = list[tuple[float, float]]


def rank_gaps(results: Results) -> list[GapRanking]:
    """Rank each gap by each of its terms, in each condition."""
    return [
        _ranking(results, condition, gap, term)
        for condition in results.conditions
        for gap, terms in TERMS_BY_GAP.items()
        for term in terms
    ]


def _ranking(results: Results, condition: str, gap: str, term: str) -> GapRanking:
    """Rank correlations over the tasks of all measured variants of the reference's method, seed by seed."""
    method = results.study.reference.partition("/")[0]
    variants = [variant for variant in results.study.measured if variant.partition("/")[0] == method]
    folders_by_seed = zip(*(results.folders(condition, variant) for variant in variants), strict=True)
    pooled, within, points = [], [], []
    for folders in folders_by_seed:
        kernels = [results.kernels[folder] for folder in folders if folder in results.kernels]
        runs = [_points_by_task(measures_by_task(kernel), term, gap) for kernel in kernels]
        of_seed = [point for run in runs for point in run.values()]
        pooled.append(_rho(of_seed))
        within.append(mean_of_known(_rho([run[task] for run in runs if task in run]) for task in _tasks(runs)))
        points += of_seed
    return GapRanking(
        condition=condition,
        gap=gap,
        gap_label=GAP_LABELS[gap],
        term=term,
        term_label=TERM_LABELS[term],
        within=_over_seeds(within),
        points=points,
        **dict(_over_seeds(pooled)),
    )


def _tasks(runs: list[dict[int, tuple[float, float]]]) -> list[int]:
    return sorted({task for run in runs for task in run})


def _points_by_task(measures: dict[str, PerTask], term: str, gap: str) -> dict[int, tuple[float, float]]:
    """Term and gap of the tasks of a run that have both."""
    pairs = enumerate(zip(measures.get(term, []), measures.get(gap, []), strict=False))
    return {task: (x, y) for task, (x, y) in pairs if x is not None and y is not None}


def _rho(points: Points) -> float | None:
    return spearman([x for x, _ in points], [y for _, y in points])


def _over_seeds(values: list[float | None]) -> Correlation:
    """The mean of one correlation a seed, and its interval within -1 and 1."""
    known = [value for value in values if value is not None]
    if not known:
        return Correlation(rho=None, low=None, high=None, n=0)
    mean = mean_over(known)
    low, high = (None if mean[end] is None else min(1.0, max(-1.0, mean[end])) for end in ("low", "high"))
    return Correlation(rho=mean["mean"], low=low, high=high, n=mean["n"])


def forecast_agreement(results: Results, condition: str, variant: str, label: str) -> ForecastResult:
    """Compare the forecasts of a variant's runs with the measured changes: of scores, and of lost accuracy."""
    runs = [kernel.forecast for kernel in results.kernels_of(condition, variant) if kernel.forecast]
    drops = [[(task.drop_forecast, task.drop_measured) for task in tasks] for tasks in runs]
    return ForecastResult(
        condition=condition,
        variant=variant,
        label=label,
        correlation=summary_of_known(mean_of_known(task.correlation for task in tasks) for tasks in runs),
        correlation_in_all=summary_of_known(mean_of_known(task.correlation_in_all for task in tasks) for tasks in runs),
        slope=summary_of_known(mean_of_known(task.slope for task in tasks) for tasks in runs),
        drops=PooledCorrelation(
            points=[point for run in drops for point in run], **dict(_over_seeds([_rho(run) for run in drops]))
        ),
    )
