"""What each part is worth: differences to the reference."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ntkcl.reporting.figures.analysis_data import settings_of
from ntkcl.reporting.figures.style import COLORS, balanced, grid, panels, placeholder_figure

METRIC = "average_accuracy"
WORDS = 38  # characters in a line of a label
LINE = 0.14  # inches
Place = tuple[float, dict[str, Any]]


def ablations_figure(content: dict[str, Any]) -> Figure:
    """Forest plot of the average accuracy: difference to the reference, paired by seed, with its 95 % interval."""
    groups = [group for group in content.get("ablations", []) if any(map(_cells, group["rows"]))]
    if not groups:
        return placeholder_figure("No ablation has finished yet.")
    headings, places, height = _places(groups)
    settings = settings_of(content)
    figure, axes = panels(len(settings), len(settings), LINE * height, 0.8)
    for panel, (name, label) in zip(axes, settings.items(), strict=True):
        _draw(panel, places, name)
        panel.set(title=label, ylim=(height, -0.5), yticks=[])
    _label(axes[0], headings, places)
    reference = content["reference_label"]
    said = f"Average accuracy minus that of {reference} (points; logarithmic beyond ±1)"
    figure.supxlabel(f"{said}\n95 % intervals over seeds; filled markers: it does not reach 0", size=8)
    return figure


def _cells(row: dict[str, Any]) -> list[dict[str, Any]]:
    """The metric in each setting where it was run."""
    return [cell[METRIC] for cell in row["cells"].values() if cell and cell.get(METRIC)]


def _places(groups: list[dict[str, Any]]) -> tuple[dict[float, str], list[Place], float]:
    """Where headings and rows stand, in lines from the top, and the number of lines."""
    headings, rows, top = {}, [], 0.0
    for group in groups:
        headings[top + 0.3] = group["title"]
        top += 1.4
        for row in filter(_cells, group["rows"]):
            lines = _lines(row)
            rows.append((top + (lines - 1) / 2, row))
            top += lines + 0.2
    return headings, rows, top


def _lines(row: dict[str, Any]) -> int:
    return 1 + balanced(row["label"], WORDS).count("\n")


def _label(panel: Axes, headings: dict[float, str], places: list[Place]) -> None:
    rows = [(place, balanced(row["label"], WORDS)) for place, row in places]
    ticks = [*headings.items(), *rows]
    panel.set_yticks([place for place, _ in ticks], [text for _, text in ticks], linespacing=1.0)
    for text in panel.get_yticklabels()[: len(headings)]:
        text.set_fontweight("bold")
    panel.tick_params(axis="y", length=0)


def _draw(panel: Axes, places: list[Place], setting: str) -> None:
    """A row's marker is filled where the interval does not reach zero."""
    panel.axvline(0, color="black", linewidth=0.8)
    for index, (place, row) in enumerate(places):
        if index % 2 == 0:
            lines = _lines(row)
            panel.axhspan(place - lines / 2 - 0.1, place + lines / 2 + 0.1, color="0.95", linewidth=0, zorder=0)
        if cell := (row["cells"].get(setting) or {}).get(METRIC):
            low, high = cell["low"], cell["high"]
            clear = low is not None and (low > 0 or high < 0)
            if low is not None:
                panel.plot([low, high], [place, place], color=COLORS[0], linewidth=1)
            face = COLORS[0] if clear else "white"
            panel.plot(cell["mean"], place, marker="o", markersize=4, mew=0.8, mec=COLORS[0], mfc=face)
    panel.spines["left"].set_visible(False)
    _scale(panel)
    grid(panel, "x")


def _scale(panel: Axes) -> None:
    """Linear between -1 and 1 and logarithmic beyond: some parts cost little and some nearly everything."""
    panel.set_xscale("symlog", linthresh=1, linscale=0.6)
    limits = panel.get_xlim()
    sizes = [1, 10] if max(map(abs, limits)) > 10 else [1, 3]
    ticks = [tick for tick in [-sizes[1], -1, 0, 1, sizes[1]] if limits[0] <= tick <= limits[1]]
    panel.set_xticks(ticks, [f"{tick:+d}".replace("-", "−") if tick else "0" for tick in ticks])
    panel.set_xticks([tick for tick in (-30, -3, 3, 30) if limits[0] <= tick <= limits[1]], minor=True)
    panel.set_xlim(limits)
