"""How much each variant forgets."""

from collections import defaultdict
from itertools import groupby
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ntkcl.reporting.figures.style import HATCHES, grid, panels, placeholder_figure, variant_styles


def forgetting_figure(content: dict[str, Any]) -> Figure:
    """Forgetting of each variant: bar and whiskers are mean and one deviation over seeds, a dot is one seed."""
    rows = [row for row in content["summaries"] if row["metrics"].get("forgetting")]
    if not rows:
        return placeholder_figure("Nothing is known of forgetting yet: no run with more than one task has finished.")
    labels = {row["variant"]: row["label"] for row in rows}
    styles = variant_styles(content["summaries"])
    groups = [list(part) for _, part in groupby(rows, key=lambda row: (row["dataset"], row["backbone"]))]
    columns = min(len(groups), 3)
    figure, axes = panels(len(groups), columns, 0.28 * len(labels) + 0.75)
    seeds = _seeds(content["runs"])
    for index, (panel, part) in enumerate(zip(axes, groups, strict=True)):
        _draw(panel, part, list(labels), styles, seeds)
        panel.set_yticks(range(len(labels)), list(labels.values()) if index % columns == 0 else [])
        panel.set_xlabel("Forgetting (points)" if index + columns >= len(groups) else "")
    return figure


def _seeds(runs: list[dict[str, Any]]) -> dict[tuple[str, str, str], list[float]]:
    found = defaultdict(list)
    for run in runs:
        if (value := run["metrics"].get("forgetting")) is not None:
            found[run["run"]["dataset"], run["run"]["backbone"], run["run"]["variant"]].append(value)
    return found


def _draw(
    panel: Axes,
    rows: list[dict[str, Any]],
    variants: list[str],
    styles: dict[str, dict[str, Any]],
    seeds: dict[tuple[str, str, str], list[float]],
) -> None:
    """One dataset and backbone; a variant without runs there keeps its place, empty."""
    for row in rows:
        place, value, style = variants.index(row["variant"]), row["metrics"]["forgetting"], styles[row["variant"]]
        look = {"color": "white", "edgecolor": style["color"], "hatch": HATCHES[place % len(HATCHES)]}
        panel.barh(place, value["mean"], 0.7, linewidth=0.8, **look)
        if value["std"] is not None:
            panel.errorbar(value["mean"], place - 0.14, xerr=value["std"], color="black", linewidth=0.8, capsize=2)
        dots = seeds[row["dataset"], row["backbone"], row["variant"]]
        panel.plot(dots, [place + 0.16] * len(dots), "o", markersize=3, mew=0.5, mec="white", color="black")
    panel.axvline(0, color="black", linewidth=0.6)
    panel.set_title(f"{rows[0]['dataset_label']}\n{rows[0]['backbone_label']}")
    panel.set_ylim(len(variants) - 0.4, -0.6)
    panel.tick_params(axis="y", length=0)
    grid(panel, "x")
