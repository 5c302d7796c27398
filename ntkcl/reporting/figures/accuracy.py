"""A_t over the tasks."""

from itertools import groupby
from math import ceil
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ntkcl.reporting.figures.style import PAGE, WIDTH, grid, legend_below, panels, placeholder_figure, variant_styles


def accuracy_figure(content: dict[str, Any]) -> Figure:
    """A_t over the tasks, a panel for each dataset and backbone with runs: mean over seeds, band of one deviation."""
    styles = variant_styles(content["summaries"])
    summaries = [row for row in content["summaries"] if row["seeds"]]
    if not summaries:
        return placeholder_figure("No run has finished yet.")
    groups = [list(rows) for _, rows in groupby(summaries, key=lambda row: (row["dataset"], row["backbone"]))]
    columns = min(len(groups), 3)
    ncols = 4 if columns > 1 else 3
    legend = 0.2 * ceil(len({row["variant"] for row in summaries}) / ncols) + 0.15
    height = min(2.3, PAGE / ceil(len(groups) / columns))
    figure, axes = panels(len(groups), columns, height, legend, WIDTH if columns > 1 else 4.2)
    for index, (panel, rows) in enumerate(zip(axes, groups, strict=True)):
        _draw(panel, rows, styles)
        if index % columns == 0:
            panel.set_ylabel("Accuracy on\nclasses seen (%)")
    legend_below(figure, ncols)
    return figure


def _draw(panel: Axes, rows: list[dict[str, Any]], styles: dict[str, dict[str, Any]]) -> None:
    """One dataset and backbone."""
    for row in rows:
        mean, std = row["accuracy"]["mean"], row["accuracy"]["std"]
        style = styles[row["variant"]]
        tasks = range(1, len(mean) + 1)
        panel.plot(tasks, mean, label=row["label"], linewidth=1.2, markersize=3.5, **style)
        if std is not None:
            low, high = ([m + side * s for m, s in zip(mean, std, strict=True)] for side in (-1, 1))
            panel.fill_between(tasks, low, high, color=style["color"], alpha=0.15, linewidth=0)
    panel.set_title(f"{rows[0]['dataset_label']}\n{rows[0]['backbone_label']}")
    panel.set_xlabel("Tasks learned")
    panel.xaxis.get_major_locator().set_params(integer=True)
    grid(panel)
