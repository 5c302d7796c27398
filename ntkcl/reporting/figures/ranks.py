"""Ranks of the variants over datasets, and what they are behind the first one."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ntkcl.reporting.figures.figure import Figure
from ntkcl.reporting.figures.style import TEXT_WIDTH, add_grid, panels, placeholder_figure
from ntkcl.reporting.study_metrics import StudyMetrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as MatplotlibFigure

    from ntkcl.metrics.statistics import Interval


class Ranked(NamedTuple):
    """One variant; intervals are over seeds, each of which has its class order.

    Args:
        label: name in the figure.
        rank: mean rank over datasets and seeds.
        on_datasets: mean rank on each dataset and backbone.
        behind: the difference in mean accuracy to the first variant, paired by seed; None for that one itself.
    """

    label: str
    rank: Interval
    on_datasets: list[float]
    behind: Interval | None


def ranked(study: StudyMetrics) -> list[Ranked]:
    """All variants but joint training, best mean rank first; of seeds with a run of each on each dataset."""
    import numpy as np

    from ntkcl.metrics.statistics import mean_over, paired_difference, ranks

    rows = [row for row in study.summaries if not row.is_joint]
    conditions = list(dict.fromkeys(row.condition for row in rows))
    labels = {row.variant: row.label for row in rows if row.seeds}
    found = {
        (run.run.dataset, run.run.backbone, run.run.variant, run.run.seed): run.metrics.average_accuracy
        for run in study.runs
    }
    accuracy = []  # (seeds, conditions, variants)
    for seed in study.seeds:
        of_seed = [[found.get((*condition, variant, seed)) for variant in labels] for condition in conditions]
        if all(None not in values for values in of_seed):
            accuracy.append(of_seed)
    if not accuracy or len(labels) < 2:
        return []
    accuracy = np.array(accuracy)
    places = ranks(-accuracy)
    of_seeds, means = places.mean(1), accuracy.mean(1)  # (seeds, variants)
    order = np.argsort(of_seeds.mean(0), kind="stable")
    first = means[:, order[0]]
    return [
        Ranked(
            list(labels.values())[index],
            mean_over(of_seeds[:, index]),
            places[:, :, index].mean(0).tolist(),
            None if index == order[0] else paired_difference(means[:, index], first),
        )
        for index in order
    ]


def ranks_figure(study: StudyMetrics) -> MatplotlibFigure:
    """Two panels with a line for each variant: mean rank, and distance to the first one."""
    rows = ranked(study)
    if not rows:
        return placeholder_figure("There is no seed yet with a run of every method on every dataset.")
    figure, axes = panels(2, 2, 0.2 * len(rows) + 0.7, width=TEXT_WIDTH)
    for position, row in enumerate(rows):
        _interval(axes[0], position, row.rank)
        axes[0].plot(row.on_datasets, [position] * len(row.on_datasets), "|", color="black", markersize=6)
        if row.behind is not None:
            _interval(axes[1], position, row.behind)
    axes[0].set_yticks(range(len(rows)), [row.label for row in rows])
    axes[1].set_yticks(range(len(rows)), [])
    axes[0].set_xlabel("Rank by Ā (1: best)")
    axes[1].set_xlabel(f"Ā, difference to {rows[0].label} (points)")
    axes[1].axvline(0, color="black", linewidth=0.6)
    for panel in axes:
        panel.set_ylim(len(rows) - 0.4, -0.6)
        panel.tick_params(axis="y", length=0)
        add_grid(panel, "x")
    return figure


FIGURE = Figure(
    title="Ranks over datasets",
    section="Accuracy",
    source="metrics",
    caption="""
        Methods in the order of their mean rank by Ā over datasets and seeds; joint training is not ranked. Left: a dot
        is the mean rank, its whiskers the 95 % interval (Student's t) over seeds, each of which has its own class
        order; bars are the mean ranks on single datasets. Right: the mean over datasets of the difference in Ā to the
        first method, in points, paired by seed, with its 95 % interval. Intervals say nothing about other datasets or
        backbones.
    """,
    draw=ranks_figure,
)


def _interval(panel: Axes, position: int, value: Interval) -> None:
    """A dot and its whiskers, which a single seed does not have."""
    if value["low"] is not None:
        panel.plot([value["low"], value["high"]], [position, position], color="#0072B2", linewidth=1.2)
    panel.plot([value["mean"]], [position], "o", color="#0072B2", markersize=4)
