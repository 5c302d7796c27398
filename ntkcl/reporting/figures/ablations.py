"""Contribution of each part: differences to the reference."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ntkcl.reporting.figures.analysis_data import condition_labels
from ntkcl.reporting.figures.figure import Figure
from ntkcl.reporting.figures.style import COLORS, add_grid, panels, placeholder_figure, wrap_evenly
from ntkcl.reporting.study_comparison import AblationGroup, AblationRow, Difference, StudyComparison

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as MatplotlibFigure

METRIC = "average_accuracy"
LABEL_WIDTH = 38  # characters in a line of a label
LINE_HEIGHT = 0.14  # inches
PlacedRow = tuple[float, AblationRow]
"""A row and its position, in lines from the top."""


def ablations_figure(study: StudyComparison) -> MatplotlibFigure:
    """Forest plot of the average accuracy: difference to the reference, paired by seed, with its 95 % interval."""
    groups = [group for group in study.ablations if any(map(_is_known, group.rows))]
    if not groups:
        return placeholder_figure("No ablation has finished yet.")
    headings, rows, height = _positions(groups)
    conditions = condition_labels(study)
    figure, axes = panels(len(conditions), len(conditions), LINE_HEIGHT * height, 0.8)
    for panel, (name, label) in zip(axes, conditions.items(), strict=True):
        _draw(panel, rows, name)
        panel.set(title=label, ylim=(height, -0.5), yticks=[])
    _label(axes[0], headings, rows)
    label = f"Average accuracy minus that of {study.reference_label} (points; logarithmic beyond ±1)"
    figure.supxlabel(f"{label}\n95 % intervals over seeds; filled markers: it does not reach 0", size=8)
    return figure


FIGURE = Figure(
    title="Contribution of each part",
    section="Ablations",
    source="analysis",
    caption="""
        Change of the average accuracy when one part is changed: that of each variant minus that of the reference, in
        points (horizontal; linear up to one point, logarithmic beyond). Pairs have the same dataset, backbone and seed;
        a marker is the mean difference over the seeds, its line the 95 % interval of that mean. A filled marker: the
        interval does not reach zero. A column for each dataset and backbone. The intervals are not corrected for the
        number of comparisons.
    """,
    draw=ablations_figure,
)


def _is_known(row: AblationRow) -> bool:
    return any(cells.get(METRIC) for cells in row.cells.values())


def _positions(groups: list[AblationGroup]) -> tuple[dict[float, str], list[PlacedRow], float]:
    """Headings and rows by their position, in lines from the top, and the number of lines."""
    headings, rows, top = {}, [], 0.0
    for group in groups:
        headings[top + 0.3] = group.title
        top += 1.4
        for row in filter(_is_known, group.rows):
            lines = _line_count(row)
            rows.append((top + (lines - 1) / 2, row))
            top += lines + 0.2
    return headings, rows, top


def _line_count(row: AblationRow) -> int:
    return 1 + wrap_evenly(row.label, LABEL_WIDTH).count("\n")


def _label(panel: Axes, headings: dict[float, str], rows: list[PlacedRow]) -> None:
    labels = [(position, wrap_evenly(row.label, LABEL_WIDTH)) for position, row in rows]
    ticks = [*headings.items(), *labels]
    panel.set_yticks([position for position, _ in ticks], [text for _, text in ticks], linespacing=1.0)
    for text in panel.get_yticklabels()[: len(headings)]:
        text.set_fontweight("bold")
    panel.tick_params(axis="y", length=0)


def _draw(panel: Axes, rows: list[PlacedRow], condition: str) -> None:
    """One condition; every second row is shaded."""
    panel.axvline(0, color="black", linewidth=0.8)
    for index, (position, row) in enumerate(rows):
        if index % 2 == 0:
            lines = _line_count(row)
            panel.axhspan(position - lines / 2 - 0.1, position + lines / 2 + 0.1, color="0.95", linewidth=0, zorder=0)
        if difference := row.cells.get(condition, {}).get(METRIC):
            _draw_difference(panel, position, difference)
    panel.spines["left"].set_visible(False)
    _set_scale(panel)
    add_grid(panel, "x")


def _draw_difference(panel: Axes, position: float, difference: Difference) -> None:
    """A marker, filled where the interval does not reach zero."""
    low, high = difference.low, difference.high
    excludes_zero = low is not None and (low > 0 or high < 0)
    if low is not None:
        panel.plot([low, high], [position, position], color=COLORS[0], linewidth=1)
    face = COLORS[0] if excludes_zero else "white"
    panel.plot(difference.mean, position, marker="o", markersize=4, mew=0.8, mec=COLORS[0], mfc=face)


def _set_scale(panel: Axes) -> None:
    """Linear between -1 and 1 and logarithmic beyond: some parts cost little and some nearly everything."""
    panel.set_xscale("symlog", linthresh=1, linscale=0.6)
    limits = panel.get_xlim()
    sizes = [1, 10] if max(map(abs, limits)) > 10 else [1, 3]
    ticks = [tick for tick in [-sizes[1], -1, 0, 1, sizes[1]] if limits[0] <= tick <= limits[1]]
    panel.set_xticks(ticks, [f"{tick:+d}".replace("-", "−") if tick else "0" for tick in ticks])
    panel.set_xticks([tick for tick in (-30, -3, 3, 30) if limits[0] <= tick <= limits[1]], minor=True)
    panel.set_xlim(limits)
