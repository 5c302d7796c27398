"""Changes of old scores: forecast from the kernel, and measured."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

import numpy as np

from ntkcl.reporting.figures.analysis_data import ExampleRun, arrays_by_number, condition_labels, example_runs
from ntkcl.reporting.figures.figure import Figure
from ntkcl.reporting.figures.style import COLORS, TEXT_WIDTH, add_grid, legend_below, new_figure, placeholder_figure
from ntkcl.reporting.study_comparison import StudyComparison

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as MatplotlibFigure

MAX_POINTS = 1500  # of a panel
LOSSES = {
    "drop_measured": {"label": "Loss measured", "color": COLORS[0], "linestyle": "-", "marker": "s", "markersize": 3},
    "drop_forecast": {"label": "Loss forecast", "color": "black", "linestyle": "--", "marker": "o", "mfc": "none"},
}
Changes = dict[int, tuple[np.ndarray, np.ndarray]]
"""Forecast and measured changes of old scores, by the task that was learned."""


def forecast_figure(study: StudyComparison) -> MatplotlibFigure:
    """Changes of old scores, measured against forecast, and below the accuracy that they cost: a column for each run.

    The cost is the accuracy among old classes that learning a task loses, in points. The titles give the correlation
    over all seeds.
    """
    examples = [(run, changes) for run in example_runs(study) if (changes := _changes(run))]
    if not examples:
        return placeholder_figure("No change of old scores has been forecast yet.")
    figure = new_figure(TEXT_WIDTH if len(examples) > 2 else 0.5 + 2.4 * len(examples), 4.4)
    axes = figure.subplots(2, len(examples), squeeze=False, height_ratios=[1.2, 1])
    correlations = _correlations(study)
    for (run, changes), top, bottom in zip(examples, *axes, strict=True):
        _scatter(top, changes)
        _losses(bottom, run)
        correlation = correlations.get((run.condition, run.variant))
        top.set_title("\n".join(filter(None, (run.condition, run.variant, correlation))))
    axes[0, 0].set_ylabel("Measured change\nof old scores")
    axes[1, 0].set_ylabel("Accuracy on old\nclasses lost (points)")
    legend_below(figure, 4)
    return figure


FIGURE = Figure(
    title="Forgetting, forecast and measured",
    section="Inside the kernel",
    source="analysis",
    files=("``kernel.safetensors`` of the first measured seed (points) and ``reports/analysis.json`` (correlations)"),
    caption="""
        Effect of learning a task on the scores that test images of earlier tasks have for their classes. Above: the
        measured change (vertical) against the change forecast from the kernel before the task was learned (horizontal),
        each point an image and a class; on the dashed line both agree. Below: the points of accuracy among the old
        classes that learning each task loses, by the forecast changes (dashed, open) and by the measured ones. A column
        for each dataset and method. r is the correlation, mean ± sample standard deviation over the seeds.
    """,
    draw=forecast_figure,
)


def _changes(run: ExampleRun) -> Changes:
    forecast = arrays_by_number(run.arrays, "forecast/", "/predicted")
    measured = arrays_by_number(run.arrays, "forecast/", "/measured")
    return {task: (forecast[task], measured[task]) for task in sorted(forecast.keys() & measured.keys())}


def _correlations(study: StudyComparison) -> dict[tuple[str, str], str]:
    """Text for the title, by the labels of condition and variant."""
    labels, texts = condition_labels(study), {}
    for row in study.forecast:
        if value := row.correlation:
            deviation = "" if value.std is None else f" ± {value.std:.2f}"
            texts[labels[row.condition], row.label] = f"r = {value.mean:.2f}{deviation}".replace("-", "−")
    return texts


def _scatter(panel: Axes, changes: Changes) -> None:
    """All tasks together, with y = x and the least-squares line."""
    from matplotlib.ticker import MaxNLocator

    x, y = (np.concatenate(side).astype(float) for side in zip(*changes.values(), strict=True))
    shown = np.linspace(0, len(x) - 1, min(MAX_POINTS, len(x))).round().astype(int)
    panel.plot(x[shown], y[shown], linestyle="", marker="o", markersize=1.8, mew=0, color=COLORS[0], alpha=0.35)
    ends = np.array([x.min(), x.max()])
    panel.plot(ends, ends, color="black", linestyle="--", linewidth=0.8, label="Forecast = measured")
    if ends[1] > ends[0]:
        slope = np.cov(x, y)[0, 1] / x.var(ddof=1)
        line = y.mean() + slope * (ends - x.mean())
        panel.plot(ends, line, color=COLORS[1], linewidth=1.2, label="Least squares")
    panel.set_xlabel("Forecast change")
    for axis, intervals in ((panel.xaxis, 2), (panel.yaxis, 4)):  # changes may be small: their numbers are long
        axis.set_major_locator(MaxNLocator(intervals))
        axis.set_major_formatter(lambda value, _: f"{value:g}".replace("-", "−"))
    add_grid(panel)


def _losses(panel: Axes, run: ExampleRun) -> None:
    """Accuracy that learning each task costs, by the forecast changes of scores and by the measured ones."""
    tasks = range(2, 2 + len(run.forecast))  # counted from 1; the first has no older ones
    for name, look in LOSSES.items():
        losses = [getattr(of_task, name) for of_task in run.forecast]
        panel.plot(tasks, losses, linewidth=1.1, **{"markersize": 5} | look)
    panel.axhline(0, color="black", linewidth=0.6, zorder=0)
    low, high = panel.get_ylim()
    panel.set_ylim(min(low, -1), max(high, 1))  # less than a point is next to nothing
    panel.set(xlabel="Task learned", xticks=tasks[:: ceil(len(tasks) / 5) or 1])
    add_grid(panel)
