"""What all figures share. They are read in print, in grey, and by people who cannot tell red from green.

So colour never stands alone: markers, lines, hatches or labels say the same. A scale of colours also grows lighter.
"""

from collections.abc import Iterable, Sequence
from math import ceil
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from ntkcl.storage.files import write_atomically

COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00"]  # Okabe and Ito's, without yellow
MARKERS = ["o", "s", "^", "D", "v", "P", "X"]  # one more than colours: 42 pairs before one returns
LINES = ["-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1))]
HATCHES = ["", "////", "....", "xxxx", "\\\\\\\\", "----", "++++"]
BOUND = {"color": "black", "marker": None, "linestyle": (0, (1, 1))}  # the joint run is no rival
SCALE = "cividis"

WIDTH = 6.3  # inches: the text width of an article
PAGE = 9.0  # its height
SMALL = 7  # points: numbers within cells
STYLE = {
    "font.size": 8,
    "axes.titlesize": 8,
    "legend.fontsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "axes.axisbelow": True,
    "hatch.linewidth": 0.5,
    "pdf.fonttype": 42,  # text stays text
}
NO_DATE = {".pdf": {"CreationDate": None}, ".png": {"Software": None}}  # what a file says of its making


def save(figure: Figure, path: Path) -> None:
    """Write a figure in the format that the name ends with; equal figures give equal bytes."""
    kind = path.suffix
    write_atomically(
        path, lambda temporary: figure.savefig(temporary, format=kind[1:], dpi=200, metadata=NO_DATE[kind])
    )


def placeholder_figure(text: str) -> Figure:
    """A figure that says why it shows nothing."""
    figure = Figure(figsize=(WIDTH, 1))
    figure.text(0.5, 0.5, text, ha="center", va="center")
    return figure


def nth_style(index: int) -> dict[str, Any]:
    """How the nth of several lines is drawn: by colour, by marker and by line for those who see none."""
    return {
        "color": COLORS[index % len(COLORS)],
        "marker": MARKERS[index % len(MARKERS)],
        "linestyle": LINES[index % len(LINES)],
    }


def variant_styles(summaries: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """How each variant is drawn, the same in every panel and figure."""
    rivals = list(dict.fromkeys(row["variant"] for row in summaries if row["protocol"] != "joint"))
    styles = {variant: nth_style(index) for index, variant in enumerate(rivals)}
    return styles | {row["variant"]: BOUND for row in summaries if row["protocol"] == "joint"}


def panels(
    count: int, columns: int, height: float, rest: float = 0.0, width: float = WIDTH, square: bool = False
) -> tuple[Figure, list[Axes]]:
    """A figure with `count` panels in rows of `columns`.

    Args:
        count: of panels.
        columns: panels in a row.
        height: of a row, in inches.
        rest: inches for what stands above and below all.
        width: of the figure, in inches.
        square: the panels keep their shape, so that they may be narrower than their column.
    """
    rows = ceil(count / columns)
    layout = "compressed" if square else "constrained"
    figure = Figure(figsize=(width, rows * height + rest), layout=layout)
    every = list(figure.subplots(rows, columns, squeeze=False).flat)
    for unused in every[count:]:
        unused.remove()
    return figure, every[:count]


def legend_below(figure: Figure, ncols: int, handles: dict[str, Any] | None = None) -> None:
    """One legend for all panels; each label once, by default all that the panels have."""
    found = handles or {
        label: handle for axes in figure.axes for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    if found:
        figure.legend(found.values(), found.keys(), loc="outside lower center", ncols=ncols, frameon=False)


def bar_below(
    figure: Figure, image: AxesImage, axes: Iterable[Axes], label: str, extend: str = "neither", aspect: float = 50
) -> None:
    """What the colours of an image and of those in `axes` mean; `aspect`: how often longer than high."""
    height = 0.25 / figure.get_figheight()
    bar = figure.colorbar(image, ax=list(axes), location="bottom", extend=extend, aspect=aspect, fraction=height)
    bar.set_label(label)
    bar.outline.set_linewidth(0.6)


def balanced(text: str, width: int) -> str:
    """`text` in as few lines of at most `width` characters as can be, of about the same length."""
    by_width = [wrap(text, narrow, break_long_words=False) for narrow in range(1, width + 1)]
    return "\n".join(next(lines for lines in by_width if len(lines) == len(by_width[-1])))


def grid(axes: Axes, axis: str = "both") -> None:
    """Thin lines behind the data."""
    axes.grid(axis=axis, alpha=0.25, linewidth=0.5)


def write_cells(axes: Axes, image: AxesImage, form: str) -> None:
    """The number in each cell, dark on light or light on dark."""
    for (row, column), value in np.ndenumerate(image.get_array().filled(np.nan)):
        if np.isfinite(value):
            dark = np.mean(image.cmap(image.norm(value))[:3]) < 0.5
            text = format(value, form)
            axes.text(column, row, text, ha="center", va="center", size=SMALL, color="white" if dark else "black")
