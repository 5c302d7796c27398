"""Eigenvalues of each task's kernel."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ntkcl.reporting.figures.analysis_data import Example, examples_of, numbered
from ntkcl.reporting.figures.style import COLORS, MARKERS, WIDTH, grid, legend_below, placeholder_figure

MOST = 5  # tasks drawn: the first, the last and some between
SMALLEST = 1e-7  # of the largest: below it eigenvalues of single precision are noise
TIMES = {"learned": "-", "end": (0, (3, 1.5))}


def spectra_figure(content: dict[str, Any]) -> Figure:
    """A row for each dataset, a column for each task: when it was learned (solid) and at the end (dashed).

    All are divided by the largest when learned: scores of different methods have different scales.
    """
    examples = [example for example in examples_of(content) if numbered(example.arrays, "spectrum/learned/")]
    if not examples:
        return placeholder_figure("No spectrum has been measured yet.")
    settings = list(dict.fromkeys(example.setting for example in examples))
    variants = list(dict.fromkeys(example.variant for example in examples))
    count = max(len(_tasks(example)) for example in examples)
    figure = Figure(figsize=(WIDTH, 1.6 * len(settings) + 0.9), layout="constrained")
    axes = figure.subplots(len(settings), count, squeeze=False, sharey="row", sharex="row")
    for example in examples:
        for panel, task in zip(axes[settings.index(example.setting)], _tasks(example), strict=False):
            _draw(panel, example, task, variants.index(example.variant))
    for row, setting in zip(axes, settings, strict=True):
        row[0].set_ylabel(f"{setting}\nEigenvalue / largest\nwhen learned")
    for panel in axes[-1]:
        panel.set_xlabel("Rank")
    legend_below(figure, 2, _legend(variants))
    return figure


def _tasks(example: Example) -> list[int]:
    """At most `MOST` tasks, evenly spaced."""
    tasks = list(numbered(example.arrays, "spectrum/learned/"))
    places = np.linspace(0, len(tasks) - 1, min(MOST, len(tasks))).round().astype(int)
    return [sorted(tasks)[place] for place in places]


def _draw(panel: Axes, example: Example, task: int, index: int) -> None:
    largest = example.arrays[f"spectrum/learned/{task}"].max(initial=0.0)
    for time, line in TIMES.items():
        values = example.arrays.get(f"spectrum/{time}/{task}")
        if values is None or largest <= 0:  # nothing was learned
            continue
        values = values[values > SMALLEST * largest] / largest
        look = _look(index) | {"linestyle": line, "markerfacecolor": "white" if time == "end" else None}
        marks = np.unique(np.geomspace(1, len(values), 5).round().astype(int)) - 1
        panel.plot(np.arange(1, len(values) + 1), values, linewidth=1, markersize=3.5, markevery=list(marks), **look)
    panel.set(xscale="log", yscale="log", title=f"Task {task + 1}")
    grid(panel)


def _look(index: int) -> dict[str, Any]:
    return {"color": COLORS[index % len(COLORS)], "marker": MARKERS[index % len(MARKERS)]}


def _legend(variants: list[str]) -> dict[str, Line2D]:
    handles = {}
    for index, variant in enumerate(variants):
        handles[f"{variant}, when learned"] = Line2D([], [], markersize=3.5, **_look(index))
        look = _look(index) | {"linestyle": TIMES["end"], "markerfacecolor": "white"}
        handles[f"{variant}, at the end"] = Line2D([], [], markersize=3.5, **look)
    return handles
