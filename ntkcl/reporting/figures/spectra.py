"""Eigenvalues of each task's kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ntkcl.reporting.figures.analysis_data import ExampleRun, arrays_by_number, example_runs
from ntkcl.reporting.figures.figure import Figure
from ntkcl.reporting.figures.style import (
    COLORS,
    MARKERS,
    TEXT_WIDTH,
    add_grid,
    legend_below,
    legend_line,
    new_figure,
    placeholder_figure,
)
from ntkcl.reporting.study_comparison import StudyComparison

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as MatplotlibFigure
    from matplotlib.lines import Line2D

MAX_TASKS = 5  # columns: the first task, the last and some between
NOISE_LEVEL = 1e-7  # of the largest eigenvalue: smaller ones of single precision are noise
LINE_STYLES = {"learned": "-", "end": (0, (3, 1.5))}


def spectra_figure(study: StudyComparison) -> MatplotlibFigure:
    """A row for each dataset, a column for each task: when it was learned (solid) and at the end (dashed).

    All are divided by the largest when learned: scores of different methods have different scales.
    """
    runs = [run for run in example_runs(study) if arrays_by_number(run.arrays, "spectrum/learned/")]
    if not runs:
        return placeholder_figure("No spectrum has been measured yet.")
    conditions = list(dict.fromkeys(run.condition for run in runs))
    variants = list(dict.fromkeys(run.variant for run in runs))
    figure = new_figure(TEXT_WIDTH, 1.6 * len(conditions) + 0.9)
    columns = max(len(_tasks(run)) for run in runs)
    axes = figure.subplots(len(conditions), columns, squeeze=False, sharey="row", sharex="row")
    for run in runs:
        for panel, task in zip(axes[conditions.index(run.condition)], _tasks(run), strict=False):
            _draw(panel, run, task, variants.index(run.variant))
    for row, condition in zip(axes, conditions, strict=True):
        row[0].set_ylabel(f"{condition}\nEigenvalue / largest\nwhen learned")
    for panel in axes[-1]:
        panel.set_xlabel("Rank")
    legend_below(figure, 2, _legend(variants))
    return figure


FIGURE = Figure(
    title="Spectra of the kernels",
    section="Inside the kernel",
    source="analysis",
    files="``kernel.safetensors`` of the first measured seed",
    caption="""
        Eigenvalues of the kernel of each task's training images, divided by the largest when the task was learned
        (vertical, logarithmic), by rank (horizontal, logarithmic): when the task was learned (solid, filled markers)
        and after the last task (dashed, open markers). A row for each dataset, a column for each of at most five tasks,
        a color and marker for each method; one run each. Eigenvalues that are noise of single precision are left out.
    """,
    draw=spectra_figure,
)


def _tasks(run: ExampleRun) -> list[int]:
    """At most `MAX_TASKS` tasks, evenly spaced."""
    tasks = sorted(arrays_by_number(run.arrays, "spectrum/learned/"))
    chosen = np.linspace(0, len(tasks) - 1, min(MAX_TASKS, len(tasks))).round().astype(int)
    return [tasks[index] for index in chosen]


def _draw(panel: Axes, run: ExampleRun, task: int, index: int) -> None:
    largest = run.arrays[f"spectrum/learned/{task}"].max(initial=0.0)
    for time, line_style in LINE_STYLES.items():
        values = run.arrays.get(f"spectrum/{time}/{task}")
        if values is None or largest <= 0:  # nothing was learned
            continue
        values = values[values > NOISE_LEVEL * largest] / largest
        look = _look(index) | {"linestyle": line_style, "markerfacecolor": "white" if time == "end" else None}
        marked = np.unique(np.geomspace(1, len(values), 5).round().astype(int)) - 1
        panel.plot(np.arange(1, len(values) + 1), values, linewidth=1, markersize=3.5, markevery=list(marked), **look)
    panel.set(xscale="log", yscale="log", title=f"Task {task + 1}")
    add_grid(panel)


def _look(index: int) -> dict[str, Any]:
    return {"color": COLORS[index % len(COLORS)], "marker": MARKERS[index % len(MARKERS)]}


def _legend(variants: list[str]) -> dict[str, Line2D]:
    handles = {}
    for index, variant in enumerate(variants):
        handles[f"{variant}, when learned"] = legend_line(markersize=3.5, **_look(index))
        look = _look(index) | {"linestyle": LINE_STYLES["end"], "markerfacecolor": "white"}
        handles[f"{variant}, at the end"] = legend_line(markersize=3.5, **look)
    return handles
