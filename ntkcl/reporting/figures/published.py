"""Published against reproduced accuracies."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import ceil
from typing import TYPE_CHECKING, Any

from ntkcl.reporting.figures.figure import Figure
from ntkcl.reporting.figures.style import (
    COLORS,
    MARKERS,
    add_grid,
    legend_below,
    legend_line,
    panels,
    placeholder_figure,
    wrap_evenly,
)
from ntkcl.reporting.study_metrics import PaperTable, PublishedNumber, StudyMetrics, Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as MatplotlibFigure
    from matplotlib.lines import Line2D

METRICS = {"average_accuracy": "average accuracy", "final_accuracy": "final accuracy"}
FILLS = ("full", "none", "left")
DATASET_MARKERS = [*MARKERS, "<", ">", "p"]
Look = dict[str, Any]


@dataclass(frozen=True)
class Pair:
    """A published and a reproduced number of one variant, metric and condition (labels of dataset and backbone)."""

    label: str
    metric: str
    condition: tuple[str, str]
    published: PublishedNumber
    reproduced: Summary


def published_figure(study: StudyMetrics) -> MatplotlibFigure:
    """Reproduced over published accuracy: a panel for each variant and metric, a marker for each dataset.

    Whiskers are one deviation; filled, open and half-filled markers distinguish backbones. On the diagonal both agree.
    """
    pairs = [pair for table in study.paper for pair in _pairs(study, table)]
    if not pairs:
        return placeholder_figure("No run has finished yet that the paper has a number for.")
    kinds = list(product(dict.fromkeys(pair.label for pair in pairs), METRICS))
    columns = 2 if len(kinds) < 4 * len(METRICS) else 4
    looks = _looks(pairs)
    samples = _legend(looks)
    figure, axes = panels(len(kinds), columns, 2.6 if columns == 2 else 1.9, 0.2 * ceil(len(samples) / 4) + 0.3)
    for index, (panel, (label, metric)) in enumerate(zip(axes, kinds, strict=True)):
        _draw(panel, [pair for pair in pairs if (pair.label, pair.metric) == (label, metric)], looks)
        panel.set_title(wrap_evenly(f"{label}: {METRICS[metric]}", 88 // columns))
        panel.set_xlabel("Published (%)" if index + columns >= len(kinds) else "")
        panel.set_ylabel("Reproduced (%)" if index % columns == 0 else "")
    legend_below(figure, 4, samples)
    return figure


FIGURE = Figure(
    title="Published and reproduced accuracy",
    section="Published and reproduced",
    source="metrics",
    files="``reports/metrics.json``; published numbers from the CSV under ``params/`` that the study names",
    caption="""
        Each marker is a dataset with a backbone: the published accuracy (horizontal) and the reproduced one (vertical),
        both in percent; a panel for each method and metric. Whiskers are one standard deviation: horizontally as the
        paper states it, vertically the sample standard deviation (sd) over the seeds. On the diagonal both are equal.
        Only pairs of which both numbers are known are shown.
    """,
    needs_published=True,
    draw=published_figure,
)


def _pairs(study: StudyMetrics, table: PaperTable) -> list[Pair]:
    numbers = {method.label: method.numbers for method in table.methods}
    found = []
    for row, metric in product(study.summaries, METRICS):
        published = numbers.get(row.method_label, {}).get(row.dataset, {}).get(metric)
        reproduced = row.metrics[metric] if row.backbone == table.backbone else None
        if published and reproduced:
            condition = (row.dataset_label, row.backbone_label)
            found.append(Pair(row.label, metric, condition, published, reproduced))
    return found


def _looks(pairs: list[Pair]) -> dict[tuple[str, str], Look]:
    """Marker and color by dataset, filling by backbone."""
    datasets = list(dict.fromkeys(pair.condition[0] for pair in pairs))
    backbones = list(dict.fromkeys(pair.condition[1] for pair in pairs))
    return {
        (dataset, backbone): {
            "color": COLORS[datasets.index(dataset) % len(COLORS)],
            "marker": DATASET_MARKERS[datasets.index(dataset) % len(DATASET_MARKERS)],
            "fillstyle": FILLS[backbones.index(backbone) % len(FILLS)],
            "linestyle": "",
            "markersize": 4.5,
        }
        for dataset, backbone in dict.fromkeys(pair.condition for pair in pairs)
    }


def _legend(looks: dict[tuple[str, str], Look]) -> dict[str, Line2D]:
    """The marker of each dataset, and, in grey, the filling of each backbone."""
    samples = {dataset: legend_line(**look | {"fillstyle": "full"}) for (dataset, _), look in looks.items()}
    grey = {"color": "0.4", "marker": "o"}
    return samples | {backbone: legend_line(**look | grey) for (_, backbone), look in looks.items()}


def _draw(panel: Axes, pairs: list[Pair], looks: dict[tuple[str, str], Look]) -> None:
    """One variant and metric, with the diagonal."""
    for pair in pairs:
        x, y, look = float(pair.published.mean), pair.reproduced.mean, looks[pair.condition]
        deviations = {"xerr": float(pair.published.std or "nan"), "yerr": pair.reproduced.std}
        panel.errorbar(x, y, **deviations, color=look["color"], linewidth=0.6)
        panel.plot(x, y, label=", ".join(pair.condition), **look)
    ends = [end for limits in (panel.get_xlim(), panel.get_ylim()) for end in limits] if pairs else [0, 100]
    panel.plot([min(ends), max(ends)], [min(ends), max(ends)], color="black", linewidth=0.6, zorder=0)
    panel.set(xlim=(min(ends), max(ends)), ylim=(min(ends), max(ends)), aspect="equal")
    add_grid(panel)
