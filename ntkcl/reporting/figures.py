"""The figures of a study, from what `aggregate` gathered."""

from itertools import groupby
from math import ceil
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ntkcl.files import read_json, write_atomically
from ntkcl.reporting.collect import REPORTS

COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00"]  # Okabe and Ito's, without yellow
MARKERS = ["o", "s", "^", "D", "v", "P", "X"]  # one more than colours: 42 pairs before one returns
LINES = ["-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1))]
BOUND = {"color": "black", "marker": None, "linestyle": (0, (1, 1))}  # the joint run is no rival

WIDTH = 6.3  # inches: the text width of an article
STYLE = {
    "font.size": 8,
    "axes.titlesize": 8,
    "legend.fontsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "pdf.fonttype": 42,  # text stays text
}
NO_DATE = {".pdf": {"CreationDate": None}, ".png": {"Software": None}}  # what a file says of its making


def write_figures(reports: Path = REPORTS) -> None:
    """Draw `figures/accuracy.pdf` and `.png` from `metrics.json`, all in `reports`; equal content gives equal bytes.

    Raises:
        UserError: `metrics.json` is missing.
    """
    content = read_json(reports / "metrics.json")
    with matplotlib.rc_context(STYLE):
        figure = accuracy_figure(content)
        for suffix in NO_DATE:
            _save(figure, reports / "figures" / f"accuracy{suffix}")


def accuracy_figure(content: dict[str, Any]) -> Figure:
    """A_t over the tasks, a panel for each dataset and backbone with runs: mean over seeds, band of one deviation."""
    styles = _styles(content["summaries"])
    summaries = [row for row in content["summaries"] if row["seeds"]]
    if not summaries:
        return _sentence("No run has finished yet.")
    panels = [list(rows) for _, rows in groupby(summaries, key=lambda row: (row["dataset"], row["backbone"]))]
    columns = min(len(panels), 3)
    ncols = 4 if columns > 1 else 3
    lines = ceil(len(panels) / columns)
    legend = 0.2 * ceil(len({row["variant"] for row in summaries}) / ncols) + 0.15
    height = 2.3 * lines + legend
    width = WIDTH if columns > 1 else 4.2
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False)
    for panel, rows in zip(axes.flat, panels, strict=False):
        _draw(panel, rows, styles)
    for unused in list(axes.flat)[len(panels) :]:
        unused.remove()
    for row in axes:
        row[0].set_ylabel("Accuracy on classes seen (%)")
    handles = {line.get_label(): line for panel in figure.axes for line in panel.lines}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=ncols, frameon=False)
    return figure


def _styles(summaries: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """How each variant is drawn, the same in every panel: by colour, by marker and by line for those who see none."""
    rivals = list(dict.fromkeys(row["variant"] for row in summaries if row["protocol"] != "joint"))
    styles = {
        variant: {
            "color": COLOURS[index % len(COLOURS)],
            "marker": MARKERS[index % len(MARKERS)],
            "linestyle": LINES[index % len(LINES)],
        }
        for index, variant in enumerate(rivals)
    }
    return styles | {row["variant"]: BOUND for row in summaries if row["protocol"] == "joint"}


def _sentence(text: str) -> Figure:
    """A figure that says why it shows nothing."""
    figure = Figure(figsize=(WIDTH, 1))
    figure.text(0.5, 0.5, text, ha="center", va="center")
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
    panel.grid(alpha=0.25, linewidth=0.5)


def _save(figure: Figure, path: Path) -> None:
    kind = path.suffix
    write_atomically(
        path, lambda temporary: figure.savefig(temporary, format=kind[1:], dpi=200, metadata=NO_DATE[kind])
    )
