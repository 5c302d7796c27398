"""Tables of a comparison: ablations, methods, sweeps, rank correlations of the gaps, forecasts."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from ntkcl.reporting.study_comparison import (
    Correlation,
    Difference,
    ForecastResult,
    GapRanking,
    StudyComparison,
    Summaries,
    SweepResult,
)
from ntkcl.reporting.study_metrics import Summary
from ntkcl.reporting.tables.model import Cell, Column, Row, Table, two_decimals
from ntkcl.reporting.tables.notes import provenance_note, seeds_note, sentences

AVERAGE_ACCURACY = "Ā: mean over tasks of the accuracy on all classes learned so far"
DIFFERENCES = (
    Column("average_accuracy", "Ā", r"$\Delta\bar{A}$", AVERAGE_ACCURACY),
    Column("final_accuracy", "A_T", r"$\Delta A_T$", "A_T: the accuracy on all classes after the last task"),
    Column("forgetting", "Forgetting", r"$\Delta$ Forgetting", "Forgetting: mean drop from a task's best to the end"),
)
MEASURES = (
    Column("average_accuracy", "Ā", r"$\bar{A}$", AVERAGE_ACCURACY),
    Column("forgetting", "Forgetting", "Forgetting", "Forgetting: mean drop of a task's accuracy from best to end"),
    Column("task_specific_gap", "Gap now", "Gap now", "Gap now: training minus test accuracy of a task when learned"),
    Column("task_interplay_gap", "Gap later", "Gap later", "Gap later: drop of its test accuracy until the end"),
    Column(
        "same_classes_gap",
        "... same classes",
        "$\\dots$ same classes",
        "... same classes: the same among the classes known when it was learned, by the learner's changes alone",
    ),
    Column(
        "effective_dimension",
        "d_eff",
        r"$d_\mathrm{eff}$",
        "d_eff: Tr K (K + ρI)⁻¹ of the kernel K of 40 of a task's images when learned, ρ its mean eigenvalue",
    ),
    Column("drift", "Drift", "Drift", "Drift: relative change of that kernel until the end"),
    Column("coupling", "Coupling", "Coupling", "Coupling: ‖K_ij‖ / √(‖K_ii‖ ‖K_jj‖) of two tasks, at the end"),
    Column("overlap", "Overlap", "Overlap", "Overlap: mean squared cosine of their features' five leading directions"),
)
RANKINGS = (
    Column(
        "rho",
        "ρ",
        r"$\rho$",
        "ρ: over variants and tasks together; the number of earlier classes differs",
    ),
    Column("within", "ρ, same task", r"$\rho$, same task", "ρ, same task: over variants, mean over tasks"),
)
FORECASTS = (
    Column("slope", "Slope", "Slope", "Slope: of the line through 0 from forecast to measured changes"),
    Column("correlation", "r", "$r$", "r: correlation of forecast and measured changes of old scores by training"),
    Column("correlation_in_all", "r, all", "$r$, all", "r, all: the same with all that a task changes"),
    Column(
        "drops",
        "ρ, drops",
        r"$\rho$, drops",
        "ρ, drops: rank correlation, over a run's tasks, of the accuracy that the changes cost among old classes",
    ),
)

Value = TypeVar("Value", Summary, Difference)


def comparison_tables(study: StudyComparison) -> list[Table]:
    """Return all tables in the order of the report, without those that the study has no runs for."""
    tables = [_ablations(study)] if study.ablations else []
    tables += [_methods(study)] if study.methods else []
    tables += [_sweep(study, sweep) for sweep in study.sweeps]
    tables += [_ranking(study)] if study.sweeps else []
    return tables + ([_forecast(study)] if study.forecast else [])


def comparison_notes(study: StudyComparison) -> str:
    """Return the notes for all tables."""
    return sentences("A dash: not run, or not defined", *provenance_note(study, study.provenance))


def _ablations(study: StudyComparison) -> Table:
    """Differences to the reference; below its row, a heading and the variants of each group."""
    reference = Row(study.reference_label, _across(study, study.reference_cells, DIFFERENCES, _summary_cell))
    groups = [
        [
            Row(group.title, []),
            *(Row(row.label, _across(study, row.cells, DIFFERENCES, _difference_cell)) for row in group.rows),
        ]
        for group in study.ablations
    ]
    caption = (
        f"Contribution of each part of {study.reference_label}: differences to it in percentage points, paired over "
        f"seeds {', '.join(map(str, study.seeds))}, with 95 % intervals (Student's t). Its own row: mean ± sample "
        "standard deviation. With so many rows, some intervals exclude 0 by chance."
    )
    columns = _columns(study, DIFFERENCES)
    return _table("ablations", caption, columns, [[reference], *groups], study, "Variant")


def _methods(study: StudyComparison) -> Table:
    rows = [(method.label, method.cells) for method in study.methods]
    return _measures(study, "inside-methods", "Measures of the methods.", rows, "Method")


def _sweep(study: StudyComparison, sweep: SweepResult) -> Table:
    rows = [(f"{point.value:g}", point.cells) for point in sweep.points]
    return _measures(study, f"sweep-{sweep.name}", f"{sweep.title}. Rows: {sweep.axis}.", rows, "Value")


def _measures(
    study: StudyComparison, name: str, caption: str, rows: list[tuple[str, dict[str, Summaries]]], head: str
) -> Table:
    """Accuracies, gaps and kernel measures: under a heading for each dataset, the `rows`."""
    sections = [
        [
            Row(condition.label, []),
            *(
                Row(label, [_summary_cell(cells[condition.name].get(column.metric)) for column in MEASURES])
                for label, cells in rows
            ),
        ]
        for condition in study.conditions
    ]
    caption += f" Accuracies and gaps in percent, means over tasks, {seeds_note(study.seeds)}."
    return _table(name.replace("_", "-"), caption, list(MEASURES), sections, study, head)


def _ranking(study: StudyComparison) -> Table:
    """Spearman's correlations, two columns for each dataset."""
    by_name = {(row.condition, row.gap, row.term): row for row in study.ranking}
    gaps = {row.gap: row.gap_label for row in study.ranking}
    terms = {(row.gap, row.term): row.term_label for row in study.ranking}
    sections = []
    for gap, heading in gaps.items():
        rows = [
            Row(label, [cell for c in study.conditions for cell in _ranking_cells(by_name[c.name, gap, term])])
            for (gap_of_term, term), label in terms.items()
            if gap_of_term == gap
        ]
        sections.append([Row(heading, []), *rows])
    caption = (
        "How well the kernel's terms rank the measured gaps over the runs of the sweeps: Spearman's rank correlation, "
        "its mean over seeds and a 95 % interval (Student's t). The complexity is the norm of the kernel ridge "
        "predictor of a task's labels over the root of the number of images that it was learned from."
    )
    return _table("gap-ranking", caption, _columns(study, RANKINGS), sections, study, "Term")


def _ranking_cells(row: GapRanking) -> list[Cell]:
    return [_correlation_cell(row), _correlation_cell(row.within)]


def _forecast(study: StudyComparison) -> Table:
    by_name = {(row.condition, row.variant): row for row in study.forecast}
    labels = {row.variant: row.label for row in study.forecast if row.slope}
    rows = [
        Row(label, [cell for c in study.conditions for cell in _forecast_cells(by_name[c.name, variant])])
        for variant, label in labels.items()
    ]
    caption = (
        "Forecasts of forgetting: the first-order change K(old, new)(K(new, new) + ρI)⁻¹(y − p) of old classes' "
        f"scores against the measured change. Means over tasks, {seeds_note(study.seeds)}; the last with an interval."
    )
    return _table("forecasts", caption, _columns(study, FORECASTS), [rows], study)


def _forecast_cells(row: ForecastResult) -> list[Cell]:
    return [
        _summary_cell(row.slope),
        _summary_cell(row.correlation),
        _summary_cell(row.correlation_in_all),
        _correlation_cell(row.drops),
    ]


def _columns(study: StudyComparison, columns: Sequence[Column]) -> list[Column]:
    """Repeat the columns for every dataset."""
    return [replace(column, dataset=condition.label) for condition in study.conditions for column in columns]


def _across(
    study: StudyComparison,
    cells: dict[str, dict[str, Value | None]],
    columns: Sequence[Column],
    cell: Callable[[Value | None], Cell],
) -> list[Cell]:
    """One row, with the columns of every dataset."""
    return [cell(cells[c.name].get(column.metric)) for c in study.conditions for column in columns]


def _table(
    name: str,
    caption: str,
    columns: list[Column],
    sections: list[list[Row]],
    study: StudyComparison,
    head: str = "Method",
) -> Table:
    meanings = dict.fromkeys(column.meaning for column in columns)
    return Table(name, caption, {"": sentences(*meanings)}, comparison_notes(study), columns, sections, head)


def _difference_cell(value: Difference | None) -> Cell:
    return Cell() if value is None else Cell(f"{two_decimals(value.mean, '+')}{_interval(value)}")


def _correlation_cell(value: Correlation) -> Cell:
    return Cell() if value.rho is None else Cell(f"{two_decimals(value.rho)}{_interval(value)}")


def _interval(value: Difference | Correlation) -> str:
    return "" if value.low is None else f" [{two_decimals(value.low)}, {two_decimals(value.high)}]"


def _summary_cell(value: Summary | None) -> Cell:
    if value is None:
        return Cell()
    return Cell(two_decimals(value.mean), "" if value.std is None else two_decimals(value.std))
