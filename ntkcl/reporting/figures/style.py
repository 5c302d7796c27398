"""Colors, sizes and elements that all figures share.

Figures are also printed in grey, and read by people who cannot tell red from green. So color is never the only
difference: markers, lines, hatches or labels differ too, and the color scale also grows lighter.

matplotlib is imported only while plotting, because Snakemake imports every figure's file.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import ceil
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np

from ntkcl.reporting.study_metrics import VariantSummary
from ntkcl.storage.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as MatplotlibFigure
    from matplotlib.image import AxesImage
    from matplotlib.lines import Line2D

COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00"]  # Okabe and Ito's, without yellow
MARKERS = ["o", "s", "^", "D", "v", "P", "X"]  # one more than colors: 42 pairs before one returns
LINE_STYLES = ["-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1))]
HATCHES = ["", "////", "....", "xxxx", "\\\\\\\\", "----", "++++"]
JOINT_STYLE = {"color": "black", "marker": None, "linestyle": (0, (1, 1))}  # an upper bound
COLOR_MAP = "cividis"

TEXT_WIDTH = 6.3  # inches, of an article
PAGE_HEIGHT = 9.0  # inches
SMALL_FONT = 7  # points: numbers within cells
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
    "text.parse_math": False,  # labels may have dollar signs
}
FILE_METADATA = {".pdf": {"CreationDate": None}, ".png": {"Software": None}}  # neither date nor version: equal bytes


def save(figure: MatplotlibFigure, path: Path) -> None:
    """Write a figure in the format that the name ends with; equal figures give equal bytes."""
    kind = path.suffix
    write_atomically(
        path, lambda temporary: figure.savefig(temporary, format=kind[1:], dpi=200, metadata=FILE_METADATA[kind])
    )


def new_figure(width: float, height: float, layout: str | None = "constrained") -> MatplotlibFigure:
    """Return an empty figure of `width` x `height` inches, with a layout engine of matplotlib."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout=layout)


def placeholder_figure(text: str) -> MatplotlibFigure:
    """Return a figure with only a text: the reason why there is nothing to show."""
    figure = new_figure(TEXT_WIDTH, 1, layout=None)
    figure.text(0.5, 0.5, text, ha="center", va="center")
    return figure


def panels(
    count: int, columns: int, height: float, rest: float = 0.0, width: float = TEXT_WIDTH, square: bool = False
) -> tuple[MatplotlibFigure, list[Axes]]:
    """Return a figure with panels in rows, and the panels.

    Args:
        count: number of panels.
        columns: panels in a row.
        height: of a row, in inches.
        rest: inches for what is above and below all panels.
        width: of the figure, in inches.
        square: the panels keep their shape, so that they may be narrower than their column.
    """
    rows = ceil(count / columns)
    figure = new_figure(width, rows * height + rest, layout="compressed" if square else "constrained")
    every = list(figure.subplots(rows, columns, squeeze=False).flat)
    for unused in every[count:]:
        unused.remove()
    return figure, every[:count]


def nth_style(index: int) -> dict[str, Any]:
    """Return color, marker and line style of the nth line of a panel."""
    return {
        "color": COLORS[index % len(COLORS)],
        "marker": MARKERS[index % len(MARKERS)],
        "linestyle": LINE_STYLES[index % len(LINE_STYLES)],
    }


def variant_styles(rows: Sequence[VariantSummary]) -> dict[str, dict[str, Any]]:
    """Return the style of each variant, the same in every panel and figure."""
    compared = dict.fromkeys(row.variant for row in rows if not row.is_joint)
    styles = {variant: nth_style(index) for index, variant in enumerate(compared)}
    return styles | {row.variant: JOINT_STYLE for row in rows if row.is_joint}


def legend_line(**look: Any) -> Line2D:
    """Return a line without points, as an entry of a legend."""
    from matplotlib.lines import Line2D

    return Line2D([], [], **look)


def legend_below(figure: MatplotlibFigure, ncols: int, handles: dict[str, Any] | None = None) -> None:
    """Add one legend for all panels, by default with every label of the panels once."""
    found = handles or {
        label: handle for axes in figure.axes for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    if found:
        figure.legend(found.values(), found.keys(), loc="outside lower center", ncols=ncols, frameon=False)


def color_bar_below(
    figure: MatplotlibFigure,
    image: AxesImage,
    axes: Iterable[Axes],
    label: str,
    extend: str = "neither",
    aspect: float = 50,
) -> None:
    """Add a color bar for `image` and the other images in `axes`; `aspect`: its length over its height."""
    height = 0.25 / figure.get_figheight()
    bar = figure.colorbar(image, ax=list(axes), location="bottom", extend=extend, aspect=aspect, fraction=height)
    bar.set_label(label)
    bar.outline.set_linewidth(0.6)


def wrap_evenly(text: str, width: int) -> str:
    """Wrap `text` into as few lines of at most `width` characters as possible, of about the same length."""
    by_width = [wrap(text, narrow, break_long_words=False) for narrow in range(1, width + 1)]
    return "\n".join(next(lines for lines in by_width if len(lines) == len(by_width[-1])))


def add_grid(axes: Axes, axis: str = "both") -> None:
    """Add thin lines behind the data."""
    axes.grid(axis=axis, alpha=0.25, linewidth=0.5)


def write_cells(axes: Axes, image: AxesImage, form: str) -> None:
    """Write the number into each cell of `image`, dark on light or light on dark; a masked cell stays empty."""
    for (row, column), value in np.ndenumerate(image.get_array().filled(np.nan)):
        if np.isfinite(value):
            is_dark = np.mean(image.cmap(image.norm(value))[:3]) < 0.5
            color = "white" if is_dark else "black"
            axes.text(column, row, format(value, form), ha="center", va="center", size=SMALL_FONT, color=color)
