"""Accuracy over the tasks."""

from __future__ import annotations

from itertools import groupby
from math import ceil
from typing import TYPE_CHECKING, Any

from ntkcl.reporting.figures.figure import Figure
from ntkcl.reporting.figures.style import (
    PAGE_HEIGHT,
    TEXT_WIDTH,
    add_grid,
    legend_below,
    panels,
    placeholder_figure,
    variant_styles,
)
from ntkcl.reporting.study_metrics import StudyMetrics, VariantSummary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as MatplotlibFigure


def accuracy_figure(study: StudyMetrics) -> MatplotlibFigure:
    """A_t over the tasks, a panel for each dataset and backbone with runs: mean over seeds, band of one deviation."""
    rows = [row for row in study.summaries if row.seeds]
    if not rows:
        return placeholder_figure("No run has finished yet.")
    styles = variant_styles(study.summaries)
    groups = [list(group) for _, group in groupby(rows, key=lambda row: row.condition)]
    columns = min(len(groups), 3)
    legend_columns = 4 if columns > 1 else 3
    legend = 0.2 * ceil(len({row.variant for row in rows}) / legend_columns) + 0.15
    height = min(2.3, PAGE_HEIGHT / ceil(len(groups) / columns))
    figure, axes = panels(len(groups), columns, height, legend, TEXT_WIDTH if columns > 1 else 4.2)
    for index, (panel, group) in enumerate(zip(axes, groups, strict=True)):
        _draw(panel, group, styles)
        if index % columns == 0:
            panel.set_ylabel("Accuracy on\nlearned classes (%)")
    legend_below(figure, legend_columns)
    return figure


FIGURE = Figure(
    title="Accuracy over the tasks",
    section="Accuracy",
    source="metrics",
    caption="""
        Accuracy on the test images of all classes learned so far (vertical, in percent) after each task (horizontal). A
        panel for each dataset and backbone. Lines are means over the seeds, bands one sample standard deviation (sd) to
        each side; with a single seed there is no band. A dotted black line is joint training, an upper bound.
    """,
    draw=accuracy_figure,
)


def _draw(panel: Axes, rows: list[VariantSummary], styles: dict[str, dict[str, Any]]) -> None:
    """One dataset and backbone."""
    for row in rows:
        mean, std = row.accuracy.mean, row.accuracy.std
        style = styles[row.variant]
        tasks = range(1, len(mean) + 1)
        panel.plot(tasks, mean, label=row.label, linewidth=1.2, markersize=3.5, **style)
        if std is not None:
            low, high = ([m + side * s for m, s in zip(mean, std, strict=True)] for side in (-1, 1))
            panel.fill_between(tasks, low, high, color=style["color"], alpha=0.15, linewidth=0)
    panel.set_title(f"{rows[0].dataset_label}\n{rows[0].backbone_label}")
    panel.set_xlabel("Tasks learned")
    panel.xaxis.get_major_locator().set_params(integer=True)
    add_grid(panel)
