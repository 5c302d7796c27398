"""Forgetting of each variant."""

from __future__ import annotations

from collections import defaultdict
from itertools import groupby
from typing import TYPE_CHECKING, Any

from ntkcl.reporting.figures.figure import Figure
from ntkcl.reporting.figures.style import HATCHES, add_grid, panels, placeholder_figure, variant_styles
from ntkcl.reporting.run_results import RunMetrics
from ntkcl.reporting.study_metrics import StudyMetrics, VariantSummary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as MatplotlibFigure

ValuesOfSeeds = dict[tuple[str, str, str], list[float]]
"""One number a seed, by dataset, backbone and variant."""


def forgetting_figure(study: StudyMetrics) -> MatplotlibFigure:
    """Forgetting of each variant: bar and whiskers are mean and one deviation over seeds, a dot is one seed."""
    rows = [row for row in study.summaries if row.metrics["forgetting"]]
    if not rows:
        return placeholder_figure("Nothing is known of forgetting yet: no run with more than one task has finished.")
    labels = {row.variant: row.label for row in rows}
    styles = variant_styles(study.summaries)
    groups = [list(group) for _, group in groupby(rows, key=lambda row: row.condition)]
    columns = min(len(groups), 3)
    figure, axes = panels(len(groups), columns, 0.28 * len(labels) + 0.75)
    seeds = _values_of_seeds(study.runs)
    for index, (panel, group) in enumerate(zip(axes, groups, strict=True)):
        _draw(panel, group, list(labels), styles, seeds)
        panel.set_yticks(range(len(labels)), list(labels.values()) if index % columns == 0 else [])
        panel.set_xlabel("Forgetting (points)" if index + columns >= len(groups) else "")
    return figure


FIGURE = Figure(
    title="Forgetting",
    section="Accuracy",
    source="metrics",
    caption="""
        Forgetting in points of accuracy: how far the accuracy on a task falls from its best to the end, mean over all
        tasks but the last. A bar is the mean over the seeds, its whiskers one sample standard deviation (sd) to each
        side, a marker one seed. Less is better. Joint training has one task only and forgets nothing by definition, so
        it is not shown.
    """,
    draw=forgetting_figure,
)


def _values_of_seeds(runs: list[RunMetrics]) -> ValuesOfSeeds:
    found = defaultdict(list)
    for run in runs:
        if (value := run.metrics.forgetting) is not None:
            found[run.run.dataset, run.run.backbone, run.run.variant].append(value)
    return found


def _draw(
    panel: Axes,
    rows: list[VariantSummary],
    variants: list[str],
    styles: dict[str, dict[str, Any]],
    seeds: ValuesOfSeeds,
) -> None:
    """One dataset and backbone; a variant without runs there keeps its position, empty."""
    for row in rows:
        position, value, style = variants.index(row.variant), row.metrics["forgetting"], styles[row.variant]
        look = {"color": "white", "edgecolor": style["color"], "hatch": HATCHES[position % len(HATCHES)]}
        panel.barh(position, value.mean, 0.7, linewidth=0.8, **look)
        if value.std is not None:
            panel.errorbar(value.mean, position - 0.14, xerr=value.std, color="black", linewidth=0.8, capsize=2)
        dots = seeds[row.dataset, row.backbone, row.variant]
        panel.plot(dots, [position + 0.16] * len(dots), "o", markersize=3, mew=0.5, mec="white", color="black")
    panel.axvline(0, color="black", linewidth=0.6)
    panel.set_title(f"{rows[0].dataset_label}\n{rows[0].backbone_label}")
    panel.set_ylim(len(variants) - 0.4, -0.6)
    panel.tick_params(axis="y", length=0)
    add_grid(panel, "x")
