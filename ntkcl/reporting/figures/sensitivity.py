"""Accuracies, forgetting and the measures of the kernel along each sweep."""

from __future__ import annotations

from collections.abc import Iterable
from math import log10
from typing import TYPE_CHECKING

from ntkcl.reporting.figures.analysis_data import condition_labels, condition_styles
from ntkcl.reporting.figures.figure import Figure
from ntkcl.reporting.figures.style import (
    PAGE_HEIGHT,
    SMALL_FONT,
    TEXT_WIDTH,
    add_grid,
    legend_below,
    new_figure,
    placeholder_figure,
    wrap_evenly,
)
from ntkcl.reporting.study_comparison import StudyComparison, SweepPoint, SweepResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as MatplotlibFigure

METRICS = {
    "average_accuracy": "Average\naccuracy (%)",
    "forgetting": "Forgetting\n(points)",
    "task_specific_gap": "Gap when learned\n(points)",
    "same_classes_gap": "Same-classes gap\n(points)",
    "effective_dimension": "Effective\ndimension",
    "alignment": "Kernel drift\n(1 − alignment)",
    "coupling": "Coupling\nof tasks",
}
ROW_WIDTH = 76  # characters that fit above or below a row of panels
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def sensitivity_figure(study: StudyComparison) -> MatplotlibFigure:
    """A column for each sweep, a row for each measure, a line for each dataset: mean and one deviation over seeds.

    The points are at equal distances, because weights are 0 and powers of ten; the reference is shaded.
    """
    sweeps = [sweep for sweep in study.sweeps if any(_is_known(sweep, metric) for metric in METRICS)]
    metrics = [metric for metric in METRICS if any(_is_known(sweep, metric) for sweep in sweeps)]
    if not sweeps:
        return placeholder_figure("No run of a sweep has finished yet.")
    figure = new_figure(TEXT_WIDTH, min(PAGE_HEIGHT, 1.08 * len(metrics) + 1.1))
    axes = figure.subplots(len(metrics), len(sweeps), squeeze=False, sharex="col", sharey="row")
    for metric, row in zip(metrics, axes, strict=True):
        for sweep, panel in zip(sweeps, row, strict=True):
            _draw(panel, sweep, metric, study)
        row[0].set_ylabel(METRICS[metric])
    _add_titles(sweeps, axes[0], axes[-1])
    figure.align_ylabels(axes[:, 0])
    legend_below(figure, 4)
    return figure


FIGURE = Figure(
    title="Sample size, task-level features, regularization",
    section="Three factors",
    source="analysis",
    caption="""
        Effect of each factor: a column for each sweep, a row for each measure (accuracy, forgetting, gaps, and the
        kernel's measures), a line for each dataset and backbone. Markers are means over the seeds, whiskers one sample
        standard deviation (sd) to each side; the measures of a run are means over its tasks. The values of a sweep are
        at equal distances. The reference is shaded grey.
    """,
    draw=sensitivity_figure,
)


def _is_known(sweep: SweepResult, metric: str) -> bool:
    return any(cells.get(metric) for point in sweep.points for cells in point.cells.values())


def _add_titles(sweeps: list[SweepResult], top: Iterable[Axes], bottom: Iterable[Axes]) -> None:
    width = ROW_WIDTH // len(sweeps)
    for sweep, first, last in zip(sweeps, top, bottom, strict=True):
        first.set_title(wrap_evenly(sweep.title, width))
        last.set_xlabel(wrap_evenly(sweep.axis, width))


def _draw(panel: Axes, sweep: SweepResult, metric: str, study: StudyComparison) -> None:
    """One sweep and measure."""
    for position, point in enumerate(sweep.points):
        if point.variant == study.reference:
            label = f"As in {study.reference_label}"
            panel.axvspan(position - 0.3, position + 0.3, color="0.9", linewidth=0, zorder=0, label=label)
    styles = condition_styles(study)
    for name, label in condition_labels(study).items():
        if found := _known_points(sweep.points, name, metric):
            look = styles[name] | {"linewidth": 1.1, "markersize": 3.5, "elinewidth": 0.7, "capsize": 1.5}
            panel.errorbar(*zip(*found, strict=True), label=label.replace("\n", ", "), **look)
    rotation = 45 if len(sweep.points) > 4 else 0  # or small powers of ten would touch
    labels = [tick_label(point.value) for point in sweep.points]
    panel.set_xticks(range(len(sweep.points)), labels, size=SMALL_FONT, rotation=rotation)
    panel.set_xlim(-0.45, len(sweep.points) - 0.55)
    add_grid(panel)


def _known_points(points: list[SweepPoint], condition: str, metric: str) -> list[tuple[int, float, float]]:
    """Position, mean and deviation of the points that are known; drift instead of alignment."""
    found = []
    for position, point in enumerate(points):
        if value := point.cells.get(condition, {}).get(metric):
            mean = 1 - value.mean if metric == "alignment" else value.mean
            found.append((position, mean, value.std or 0.0))
    return found


def tick_label(value: float) -> str:
    """Format a number of an axis; small powers of ten as powers."""
    if 0 < value < 1 and log10(value).is_integer():
        return "10" + str(round(log10(value))).translate(SUPERSCRIPTS)
    return f"{value:g}"
