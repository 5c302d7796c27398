"""Kernels of images, and how strongly tasks are coupled."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from ntkcl.reporting.figures.analysis_data import Example, examples_of
from ntkcl.reporting.figures.style import PAGE, SCALE, WIDTH, bar_below, placeholder_figure, write_cells

COLUMNS = {"kernel/before": "After the first task", "kernel/after": "After the last task"}
COUPLING = "Coupling of tasks at the end"
NORMALIZED = "Kernel summed over the first task's classes / mean of its diagonal"


def kernels_figure(content: dict[str, Any]) -> Figure:
    """A row for each dataset and method: the kernel of images sorted by task, early and at the end, and the coupling.

    Kernels are summed over the first task's classes and divided by the mean of their diagonal.
    """
    examples = [example for example in examples_of(content) if {*COLUMNS, "coupling"} & example.arrays.keys()]
    if not examples:
        return placeholder_figure("No kernel has been measured yet.")
    figure = Figure(figsize=(WIDTH, min(PAGE, 1.9 * len(examples) + 1.1)), layout="compressed")
    axes = figure.subplots(len(examples), 3, squeeze=False)
    limits = _limits(examples)
    images = [_row(row, example, limits) for row, example in zip(axes, examples, strict=True)]
    for panel, title in zip(axes[0], [*COLUMNS.values(), COUPLING], strict=True):
        panel.set_title(title)
    for panel in axes[-1]:
        panel.set_xlabel("Task")
    for part, *look in ((slice(0, 2), NORMALIZED, "both", 40), (slice(2, 3), "Coupling", "neither", 19)):
        if drawn := [image for row in images for image in row[part] if image]:
            bar_below(figure, drawn[0], axes[:, part].flat, *look)
    return figure


def normalized(kernel: np.ndarray) -> np.ndarray:
    """A kernel (N, N) whose diagonal has mean 1; one of a method that learns nothing stays zero."""
    return kernel / (np.diagonal(kernel).mean() or 1.0)


def _limits(examples: list[Example]) -> tuple[float, float]:
    """One scale for all kernels; the most extreme hundredth on each side goes beyond it."""
    kernels = [
        normalized(example.arrays[name]).ravel() for example in examples for name in COLUMNS.keys() & example.arrays
    ]
    if not kernels:
        return 0.0, 1.0
    low, high = np.percentile(np.concatenate(kernels), [1, 99])
    return min(0.0, float(low)), float(high)


def _row(panels: np.ndarray, example: Example, limits: tuple[float, float]) -> list[AxesImage | None]:
    images: list[AxesImage | None] = []
    for panel, name in zip(panels, COLUMNS, strict=False):
        kernel = example.arrays.get(name)
        images.append(None if kernel is None else _kernel(panel, kernel, example.arrays["kernel/tasks"], limits))
    coupling = example.arrays.get("coupling")
    images.append(None if coupling is None else _coupling(panels[2], coupling))
    for panel, image in zip(panels, images, strict=True):
        _finish(panel, image)
    panels[0].set_ylabel(f"{example.setting}: {example.variant}\nTask")
    return images


def _kernel(panel: Axes, kernel: np.ndarray, tasks: np.ndarray, limits: tuple[float, float]) -> AxesImage:
    image = panel.imshow(normalized(kernel), cmap=SCALE, vmin=limits[0], vmax=limits[1], interpolation="nearest")
    borders = np.flatnonzero(np.diff(tasks)) + 0.5
    for border in borders:
        panel.axhline(border, color="white", linewidth=0.5)
        panel.axvline(border, color="white", linewidth=0.5)
    ends = np.concatenate([[-0.5], borders, [len(tasks) - 0.5]])
    _ticks(panel, (ends[1:] + ends[:-1]) / 2, [str(task + 1) for task in np.unique(tasks)])
    return image


def _coupling(panel: Axes, coupling: np.ndarray) -> AxesImage:
    low, high = min(0.0, float(coupling.min())), max(1.0, float(coupling.max()))
    image = panel.imshow(np.ma.asarray(coupling), cmap=SCALE, vmin=low, vmax=high)
    if len(coupling) <= 5:
        write_cells(panel, image, ".2f")
    _ticks(panel, np.arange(len(coupling)), [str(task + 1) for task in range(len(coupling))])
    return image


def _ticks(panel: Axes, places: np.ndarray, labels: list[str]) -> None:
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_ticks(places, labels)


def _finish(panel: Axes, image: AxesImage | None) -> None:
    """A panel without a measurement says so."""
    panel.spines[:].set_visible(False)
    panel.tick_params(length=0, pad=2)
    if image is None:
        panel.set(xticks=[], yticks=[], aspect="equal", box_aspect=1)
        panel.text(0.5, 0.5, "not measured", ha="center", va="center", transform=panel.transAxes)
