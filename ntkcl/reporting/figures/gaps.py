"""Measured generalization gaps against the terms of the bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ntkcl.reporting.figures.analysis_data import condition_labels, condition_styles
from ntkcl.reporting.figures.figure import Figure
from ntkcl.reporting.figures.style import (
    PAGE_HEIGHT,
    TEXT_WIDTH,
    add_grid,
    new_figure,
    placeholder_figure,
    wrap_evenly,
)
from ntkcl.reporting.study_comparison import GapRanking, StudyComparison

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as MatplotlibFigure

SHOWN_PAIRS = {  # gap and term, of all that are ranked
    ("task_specific_gap", "complexity"),
    ("task_specific_gap", "rademacher"),
    ("same_classes_gap", "drift"),
    ("same_classes_gap", "coupling_later"),
}
LOG_SCALE_FACTOR = 50  # a term that spans more than this factor has a logarithmic axis


def gaps_figure(study: StudyComparison) -> MatplotlibFigure:
    """A row for each gap and term, a column for each dataset: a point is one run and task."""
    entries = [entry for entry in study.ranking if entry.points and (entry.gap, entry.term) in SHOWN_PAIRS]
    if not entries:
        return placeholder_figure("No gap has been measured yet.")
    conditions, styles, wide_terms = condition_labels(study), condition_styles(study), _wide_terms(entries)
    rows = list(dict.fromkeys((entry.gap, entry.term) for entry in entries))
    figure = new_figure(TEXT_WIDTH, min(PAGE_HEIGHT, 2.0 * len(rows)))
    axes = figure.subplots(len(rows), len(conditions), squeeze=False)
    for entry in entries:
        row, column = rows.index((entry.gap, entry.term)), list(conditions).index(entry.condition)
        axes[row, 0].set_ylabel(wrap_evenly(f"{entry.gap_label} (points)", 24))
        panel = axes[row, column]
        _draw(panel, entry, conditions[entry.condition], styles[entry.condition])
        if entry.term in wide_terms:
            panel.set_xscale("log")
            panel.xaxis.set_minor_formatter("")
    for panel in [panel for panel in axes.flat if not panel.lines]:
        panel.remove()
    return figure


FIGURE = Figure(
    title="Gaps and the terms of the theory",
    section="Inside the kernel",
    source="analysis",
    caption="""
        Measured gaps (vertical, in points of accuracy) against the terms that the theory relates to them (horizontal);
        a row for each gap and term, a column for each dataset and backbone. The task-specific gap is the accuracy on a
        task's training images minus that on its test images, just after it was learned; the gap by later tasks among
        the same classes is the test accuracy that the task loses until the end, among the classes known when it was
        learned. A point is one task of one run, n their number. ρ is Spearman's rank correlation over the variants and
        tasks of a seed: mean over seeds and 95 % interval.
    """,
    draw=gaps_figure,
)


def _wide_terms(entries: list[GapRanking]) -> set[str]:
    """The terms with a logarithmic axis, the same for all datasets."""
    found = set()
    for term in {entry.term for entry in entries}:
        values = [value for entry in entries if entry.term == term for value, _ in entry.points]
        if min(values) > 0 and max(values) > LOG_SCALE_FACTOR * min(values):
            found.add(term)
    return found


def _draw(panel: Axes, entry: GapRanking, condition: str, style: dict[str, Any]) -> None:
    terms, gaps = zip(*entry.points, strict=True)
    panel.plot(terms, gaps, linestyle="", marker=style["marker"], color=style["color"], markersize=3, mew=0, alpha=0.5)
    panel.axhline(0, color="black", linewidth=0.6, zorder=0)
    panel.set(title=f"{condition}: {_correlation(entry)}", xlabel=entry.term_label[:1].upper() + entry.term_label[1:])
    add_grid(panel)


def _correlation(entry: GapRanking) -> str:
    """Text for the title."""
    if entry.rho is None:
        return f"n = {len(entry.points)}"
    interval = f" [{entry.low:.2f}, {entry.high:.2f}]" if entry.low is not None else ""
    return f"ρ = {entry.rho:.2f}{interval}, n = {len(entry.points)}".replace("-", "−")
