"""Accuracy matrices: the accuracy on each task after each later one."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from ntkcl.reporting.figures.figure import Figure
from ntkcl.reporting.figures.style import (
    COLOR_MAP,
    TEXT_WIDTH,
    color_bar_below,
    panels,
    placeholder_figure,
    wrap_evenly,
    write_cells,
)
from ntkcl.reporting.run_results import RunMetrics, RunName
from ntkcl.reporting.study_metrics import StudyMetrics, VariantSummary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as MatplotlibFigure
    from matplotlib.image import AxesImage

MAX_TASKS_WITH_NUMBERS = 6
MAX_LARGE_PANELS = 20  # more are small, six in a row, so that all fit on one page


def matrices_figure(study: StudyMetrics) -> MatplotlibFigure:
    """a(t, k), a panel for each dataset and variant with runs: mean over seeds, with numbers if tasks are few."""
    matrices = _means(study.runs)
    rows = [row for row in study.summaries if _name(row) in matrices]
    if not rows:
        return placeholder_figure("No run has finished yet.")
    large = len(rows) <= MAX_LARGE_PANELS
    columns = _columns(len(rows), len({row.variant for row in rows})) if large else 6
    width = TEXT_WIDTH if columns > 2 else 2.4 * columns
    figure, axes = panels(len(rows), columns, width / columns + (0.25 if large else 0.6), 0.7, width, square=True)
    backbones = len({row.backbone for row in rows})
    for index, (panel, row) in enumerate(zip(axes, rows, strict=True)):
        image = _draw(panel, matrices[_name(row)], large)
        panel.set_xlabel("Images of task" if index + columns >= len(rows) else "")
        panel.set_ylabel("After task" if index % columns == 0 else "")
        panel.set_title("\n".join(wrap_evenly(part, 80 // columns) for part in _title(row, backbones)))
    color_bar_below(figure, image, axes, "Accuracy (%)")
    return figure


FIGURE = Figure(
    title="Accuracy matrices",
    section="Accuracy",
    source="metrics",
    caption="""
        The accuracy matrix of each method: color is the accuracy in percent on the test images of one task (column)
        after learning another (row), among all classes learned so far; the mean over the seeds. There is nothing above
        the diagonal: the method had not learned the task yet. A column that grows darker downwards is forgetting.
        With few tasks the numbers are in the cells. Joint training learns all classes at once; each of its rows is
        evaluated on the tasks up to that row only.
    """,
    draw=matrices_figure,
)


def _title(row: VariantSummary, backbones: int) -> tuple[str, str]:
    """Variant, and dataset; the backbone only if there are several."""
    return row.label, row.dataset_label + (f", {row.backbone_label}" if backbones > 1 else "")


def _columns(count: int, variants: int) -> int:
    """Columns of large panels: a row for each dataset if all variants fit into it."""
    return min(count, variants if 3 <= variants <= 5 else 4)


def _name(names: VariantSummary | RunName) -> tuple[str, str, str]:
    return names.dataset, names.backbone, names.variant


def _means(runs: list[RunMetrics]) -> dict[tuple[str, str, str], np.ndarray]:
    """The mean over seeds, shape (T, T), nan above the diagonal."""
    found = defaultdict(list)
    for run in runs:
        matrix = run.metrics.accuracy_matrix
        found[_name(run.run)].append([row + [np.nan] * (len(matrix) - len(row)) for row in matrix])
    return {name: np.mean(matrices, axis=0) for name, matrices in found.items()}


def _draw(panel: Axes, matrix: np.ndarray, large: bool) -> AxesImage:
    image = panel.imshow(np.ma.masked_invalid(matrix), cmap=COLOR_MAP, vmin=0, vmax=100)
    tasks = len(matrix)
    labeled = range(tasks) if tasks <= MAX_TASKS_WITH_NUMBERS else [0, *range(4, tasks, 5)]
    shown = labeled if large else [0, tasks - 1]
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_ticks(shown, [str(task + 1) for task in shown])
    panel.spines[:].set_visible(False)
    panel.tick_params(length=0, pad=2)
    if large and tasks <= MAX_TASKS_WITH_NUMBERS:
        write_cells(panel, image, ".0f")
    return image
