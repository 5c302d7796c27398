"""Kernels of images, and the coupling of tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ntkcl.reporting.figures.analysis_data import ExampleRun, example_runs
from ntkcl.reporting.figures.figure import Figure
from ntkcl.reporting.figures.style import (
    COLOR_MAP,
    PAGE_HEIGHT,
    TEXT_WIDTH,
    color_bar_below,
    new_figure,
    placeholder_figure,
    write_cells,
)
from ntkcl.reporting.study_comparison import StudyComparison

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as MatplotlibFigure
    from matplotlib.image import AxesImage

COLUMNS = {"kernel/before": "After the first task", "kernel/after": "After the last task"}
COUPLING = "Coupling of tasks at the end"
NORMALIZED = "Kernel summed over the first task's classes / mean of its diagonal"
MAX_TASKS_WITH_NUMBERS = 5


def kernels_figure(study: StudyComparison) -> MatplotlibFigure:
    """A row for each dataset and method: the kernel of images sorted by task, early and at the end, and the coupling.

    Kernels are summed over the first task's classes and divided by the mean of their diagonal.
    """
    runs = [run for run in example_runs(study) if {*COLUMNS, "coupling"} & run.arrays.keys()]
    if not runs:
        return placeholder_figure("No kernel has been measured yet.")
    figure = new_figure(TEXT_WIDTH, min(PAGE_HEIGHT, 1.9 * len(runs) + 1.1), layout="compressed")
    axes = figure.subplots(len(runs), 3, squeeze=False)
    limits = _limits(runs)
    images = [_draw_row(row, run, limits) for row, run in zip(axes, runs, strict=True)]
    for panel, title in zip(axes[0], [*COLUMNS.values(), COUPLING], strict=True):
        panel.set_title(title)
    for panel in axes[-1]:
        panel.set_xlabel("Task")
    for part, *look in ((slice(0, 2), NORMALIZED, "both", 40), (slice(2, 3), "Coupling", "neither", 19)):
        if present := [image for row in images for image in row[part] if image]:
            color_bar_below(figure, present[0], axes[:, part].flat, *look)
    return figure


FIGURE = Figure(
    title="Kernels",
    section="Inside the kernel",
    source="analysis",
    files="``kernel.safetensors`` of the first measured seed",
    caption="""
        The empirical neural tangent kernel of training images sorted by task, summed over the classes of the first task
        and divided by the mean of its diagonal: after the first task (left) and after the last (middle). Right: the
        coupling of each pair of tasks by the kernel at the end. A row for each dataset and method, one run each; white
        lines separate the tasks.
    """,
    draw=kernels_figure,
)


def normalized(kernel: np.ndarray) -> np.ndarray:
    """Scale a kernel (N, N) so that its diagonal has mean 1; the kernel of a method that trains nothing stays zero."""
    return kernel / (np.diagonal(kernel).mean() or 1.0)


def _limits(runs: list[ExampleRun]) -> tuple[float, float]:
    """One scale for all kernels; it excludes the most extreme hundredth on each side."""
    kernels = [normalized(run.arrays[name]).ravel() for run in runs for name in COLUMNS.keys() & run.arrays]
    if not kernels:
        return 0.0, 1.0
    low, high = np.percentile(np.concatenate(kernels), [1, 99])
    return min(0.0, float(low)), float(high)


def _draw_row(panels: np.ndarray, run: ExampleRun, limits: tuple[float, float]) -> list[AxesImage | None]:
    images: list[AxesImage | None] = []
    for panel, name in zip(panels, COLUMNS, strict=False):
        kernel = run.arrays.get(name)
        images.append(None if kernel is None else _draw_kernel(panel, kernel, run.arrays["kernel/tasks"], limits))
    coupling = run.arrays.get("coupling")
    images.append(None if coupling is None else _draw_coupling(panels[2], coupling))
    for panel, image in zip(panels, images, strict=True):
        _finish(panel, image)
    panels[0].set_ylabel(f"{run.condition}: {run.variant}\nTask")
    return images


def _draw_kernel(panel: Axes, kernel: np.ndarray, tasks: np.ndarray, limits: tuple[float, float]) -> AxesImage:
    image = panel.imshow(normalized(kernel), cmap=COLOR_MAP, vmin=limits[0], vmax=limits[1], interpolation="nearest")
    borders = np.flatnonzero(np.diff(tasks)) + 0.5
    for border in borders:
        panel.axhline(border, color="white", linewidth=0.5)
        panel.axvline(border, color="white", linewidth=0.5)
    ends = np.concatenate([[-0.5], borders, [len(tasks) - 0.5]])
    _set_ticks(panel, (ends[1:] + ends[:-1]) / 2, [str(task + 1) for task in np.unique(tasks)])
    return image


def _draw_coupling(panel: Axes, coupling: np.ndarray) -> AxesImage:
    low, high = min(0.0, float(coupling.min())), max(1.0, float(coupling.max()))
    image = panel.imshow(np.ma.asarray(coupling), cmap=COLOR_MAP, vmin=low, vmax=high)
    if len(coupling) <= MAX_TASKS_WITH_NUMBERS:
        write_cells(panel, image, ".2f")
    _set_ticks(panel, np.arange(len(coupling)), [str(task + 1) for task in range(len(coupling))])
    return image


def _set_ticks(panel: Axes, positions: np.ndarray, labels: list[str]) -> None:
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_ticks(positions, labels)


def _finish(panel: Axes, image: AxesImage | None) -> None:
    """Remove the frame; label a panel without a measurement."""
    panel.spines[:].set_visible(False)
    panel.tick_params(length=0, pad=2)
    if image is None:
        panel.set(xticks=[], yticks=[], aspect="equal", box_aspect=1)
        panel.text(0.5, 0.5, "not measured", ha="center", va="center", transform=panel.transAxes)
