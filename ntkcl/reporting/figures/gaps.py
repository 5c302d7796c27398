"""Measured generalization gaps against the terms of the bounds."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ntkcl.reporting.figures.analysis_data import setting_styles, settings_of
from ntkcl.reporting.figures.style import PAGE, WIDTH, balanced, grid, placeholder_figure

SHOWN = {  # of all that is ranked
    ("task_specific_gap", "complexity"),
    ("task_specific_gap", "rademacher"),
    ("same_classes_gap", "drift"),
    ("same_classes_gap", "coupling_later"),
}
WIDE = 50  # a term that spans more than this factor is drawn on a logarithmic axis


def gaps_figure(content: dict[str, Any]) -> Figure:
    """A row for each gap and term, a column for each dataset: a point is one run and task."""
    entries = [row for row in content.get("ranking", []) if row["points"] and (row["gap"], row["term"]) in SHOWN]
    if not entries:
        return placeholder_figure("No gap has been measured yet.")
    settings = settings_of(content)
    rows = list(dict.fromkeys((entry["gap"], entry["term"]) for entry in entries))
    height = min(PAGE, 2.0 * len(rows))
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.subplots(len(rows), len(settings), squeeze=False)
    styles, wide = setting_styles(content), _wide(entries)
    for entry in entries:
        place = rows.index((entry["gap"], entry["term"])), list(settings).index(entry["setting"])
        axes[place[0], 0].set_ylabel(balanced(f"{entry['gap_label']} (points)", 24))
        panel = axes[place]
        _draw(panel, entry, settings[entry["setting"]], styles[entry["setting"]])
        if entry["term"] in wide:
            panel.set_xscale("log")
            panel.xaxis.set_minor_formatter("")
    for panel in [panel for panel in axes.flat if not panel.lines]:
        panel.remove()
    return figure


def _wide(entries: list[dict[str, Any]]) -> set[str]:
    """The terms for a logarithmic axis, the same for all datasets."""
    found = set()
    for term in {entry["term"] for entry in entries}:
        values = [point[0] for entry in entries if entry["term"] == term for point in entry["points"]]
        if min(values) > 0 and max(values) > WIDE * min(values):
            found.add(term)
    return found


def _draw(panel: Axes, entry: dict[str, Any], setting: str, style: dict[str, Any]) -> None:
    terms, gaps = zip(*entry["points"], strict=True)
    panel.plot(terms, gaps, linestyle="", marker=style["marker"], color=style["color"], markersize=3, mew=0, alpha=0.5)
    panel.axhline(0, color="black", linewidth=0.6, zorder=0)
    panel.set(title=f"{setting}: {_rho(entry)}", xlabel=entry["term_label"][:1].upper() + entry["term_label"][1:])
    grid(panel)


def _rho(entry: dict[str, Any]) -> str:
    if entry["rho"] is None:
        return f"n = {len(entry['points'])}"
    known = entry["low"] is not None
    interval = f" [{entry['low']:.2f}, {entry['high']:.2f}]" if known else ""
    return f"ρ = {entry['rho']:.2f}{interval}, n = {len(entry['points'])}".replace("-", "−")
