"""Accuracy matrices: what became of each task."""

from collections import defaultdict
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from ntkcl.reporting.figures.style import SCALE, WIDTH, balanced, bar_below, panels, placeholder_figure, write_cells

FEW = 6  # tasks: so many have room for numbers


def matrices_figure(content: dict[str, Any]) -> Figure:
    """a(t, k), a panel for each dataset and variant with runs: mean over seeds, and the numbers if tasks are few."""
    matrices = _means(content["runs"])
    rows = [row for row in content["summaries"] if _name(row) in matrices]
    if not rows:
        return placeholder_figure("No run has finished yet.")
    columns = _columns(len(rows), len({row["variant"] for row in rows}))
    width = WIDTH if columns > 2 else 2.4 * columns
    figure, axes = panels(len(rows), columns, width / columns + (0.25 if columns < 6 else 0.6), 0.7, width, square=True)
    backbones = len({row["backbone"] for row in rows})
    for index, (panel, row) in enumerate(zip(axes, rows, strict=True)):
        image = _draw(panel, matrices[_name(row)], large=columns < 6)
        panel.set_xlabel("Images of task" if index + columns >= len(rows) else "")
        panel.set_ylabel("After task" if index % columns == 0 else "")
        panel.set_title("\n".join(balanced(part, 80 // columns) for part in _title(row, backbones)))
    bar_below(figure, image, axes, "Accuracy (%)")
    return figure


def _title(row: dict[str, Any], backbones: int) -> tuple[str, str]:
    """Variant, and dataset; the backbone only if there are several."""
    return row["label"], row["dataset_label"] + (f", {row['backbone_label']}" if backbones > 1 else "")


def _columns(count: int, variants: int) -> int:
    """A row of panels for each dataset if it has room for all variants; all on one page."""
    if count > 20:
        return 6
    return min(count, variants if 3 <= variants <= 5 else 4)


def _name(names: dict[str, Any]) -> tuple[str, str, str]:
    return names["dataset"], names["backbone"], names["variant"]


def _means(runs: list[dict[str, Any]]) -> dict[tuple[str, str, str], np.ndarray]:
    """The mean over seeds, shape (T, T), nothing above the diagonal."""
    found = defaultdict(list)
    for run in runs:
        if matrix := run["metrics"].get("accuracy_matrix"):
            found[_name(run["run"])].append([row + [np.nan] * (len(matrix) - len(row)) for row in matrix])
    return {name: np.mean(several, axis=0) for name, several in found.items()}


def _draw(panel: Axes, matrix: np.ndarray, large: bool) -> AxesImage:
    image = panel.imshow(np.ma.masked_invalid(matrix), cmap=SCALE, vmin=0, vmax=100)
    tasks = len(matrix)
    few = range(tasks) if tasks <= FEW else [0, *range(4, tasks, 5)]
    shown = few if large else [0, tasks - 1]
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_ticks(shown, [str(task + 1) for task in shown])
    panel.spines[:].set_visible(False)
    panel.tick_params(length=0, pad=2)
    if large and tasks <= FEW:
        write_cells(panel, image, ".0f")
    return image
