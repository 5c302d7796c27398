"""What the kernel foretells about old tasks, and what came."""

from math import ceil
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ntkcl.reporting.figures.analysis_data import Example, examples_of, numbered, settings_of
from ntkcl.reporting.figures.style import COLORS, WIDTH, grid, legend_below, placeholder_figure

MOST = 1500  # points of a panel
LOSSES = {
    "drop_measured": {"label": "Loss measured", "color": COLORS[0], "linestyle": "-", "marker": "s", "markersize": 3},
    "drop_forecast": {"label": "Loss forecast", "color": "black", "linestyle": "--", "marker": "o", "mfc": "none"},
}
Pairs = dict[int, tuple[np.ndarray, np.ndarray]]


def forecast_figure(content: dict[str, Any]) -> Figure:
    """Changes of old scores, measured against forecast, and below what they cost: a column for each run.

    The cost is the accuracy among old classes that learning a task loses, in points. The titles give the correlation
    over all seeds.
    """
    examples = [(example, _pairs(example)) for example in examples_of(content)]
    examples = [(example, pairs) for example, pairs in examples if pairs]
    if not examples:
        return placeholder_figure("No change of old scores has been forecast yet.")
    width = WIDTH if len(examples) > 2 else 0.5 + 2.4 * len(examples)
    figure = Figure(figsize=(width, 4.4), layout="constrained")
    axes = figure.subplots(2, len(examples), squeeze=False, height_ratios=[1.2, 1])
    correlations = _correlations(content)
    for (example, pairs), top, bottom in zip(examples, *axes, strict=True):
        _scatter(top, pairs)
        _losses(bottom, example)
        said = correlations.get((example.setting, example.variant))
        top.set_title("\n".join(filter(None, (example.setting, example.variant, said))))
    axes[0, 0].set_ylabel("Measured change\nof old scores")
    axes[1, 0].set_ylabel("Accuracy on old\nclasses lost (points)")
    legend_below(figure, 4)
    return figure


def _pairs(example: Example) -> Pairs:
    """Forecast and measured changes, by the task that was learned."""
    forecast = numbered(example.arrays, "forecast/", "/predicted")
    measured = numbered(example.arrays, "forecast/", "/measured")
    return {task: (forecast[task], measured[task]) for task in sorted(forecast.keys() & measured.keys())}


def _correlations(content: dict[str, Any]) -> dict[tuple[str, str], str]:
    labels = settings_of(content)
    said = {}
    for row in content.get("forecast", []):
        if value := row["correlation"]:
            deviation = "" if value["std"] is None else f" ± {value['std']:.2f}"
            said[labels[row["setting"]], row["label"]] = f"r = {value['mean']:.2f}{deviation}".replace("-", "−")
    return said


def _scatter(panel: Axes, pairs: Pairs) -> None:
    """All tasks together, with y = x and the least-squares line."""
    x, y = (np.concatenate(side).astype(float) for side in zip(*pairs.values(), strict=True))
    shown = np.linspace(0, len(x) - 1, min(MOST, len(x))).round().astype(int)
    panel.plot(x[shown], y[shown], linestyle="", marker="o", markersize=1.8, mew=0, color=COLORS[0], alpha=0.35)
    ends = np.array([x.min(), x.max()])
    panel.plot(ends, ends, color="black", linestyle="--", linewidth=0.8, label="Forecast = measured")
    if ends[1] > ends[0]:
        slope = np.cov(x, y)[0, 1] / x.var(ddof=1)
        line = y.mean() + slope * (ends - x.mean())
        panel.plot(ends, line, color=COLORS[1], linewidth=1.2, label="Least squares")
    panel.set_xlabel("Forecast change")
    for axis, most in ((panel.xaxis, 2), (panel.yaxis, 4)):  # changes may be small: their numbers are long
        axis.set_major_locator(MaxNLocator(most))
        axis.set_major_formatter(lambda value, _: f"{value:g}".replace("-", "−"))
    grid(panel)


def _losses(panel: Axes, example: Example) -> None:
    """What learning each task costs, by the forecast changes of scores and by the measured ones."""
    tasks = range(2, 2 + len(example.forecast))  # counted from 1; the first has no older ones
    for name, look in LOSSES.items():
        losses = [numbers[name] for numbers in example.forecast]
        panel.plot(tasks, losses, linewidth=1.1, **{"markersize": 5} | look)
    panel.axhline(0, color="black", linewidth=0.6, zorder=0)
    low, high = panel.get_ylim()
    panel.set_ylim(min(low, -1), max(high, 1))  # less than a point is next to nothing
    panel.set(xlabel="Task learned", xticks=tasks[:: ceil(len(tasks) / 5) or 1])
    grid(panel)
