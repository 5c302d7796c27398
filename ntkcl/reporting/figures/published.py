"""Published against reproduced accuracies."""

from itertools import product
from math import ceil
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ntkcl.reporting.figures.style import COLORS, MARKERS, balanced, grid, legend_below, panels, placeholder_figure

METRICS = {"average_accuracy": "average accuracy", "final_accuracy": "final accuracy"}
FILLS = ("full", "none", "left")
Look = dict[str, Any]
Pair = dict[str, Any]  # names, `x` and `y`, each with mean and std


def published_figure(content: dict[str, Any]) -> Figure:
    """Reproduced over published accuracy: a panel for each variant and metric, a marker for each dataset.

    Whiskers are one deviation; filled, open and half-filled markers tell backbones apart. On the diagonal both agree.
    """
    pairs = [pair for table in content["paper"] for pair in _pairs(content, table)]
    if not pairs:
        return placeholder_figure("No run has finished yet that the paper has a number for.")
    variants = list(dict.fromkeys(pair["label"] for pair in pairs))
    wanted = list(product(variants, METRICS))
    columns = 2 if len(variants) < 4 else 4
    looks = _looks(pairs)
    samples = _samples(looks)
    figure, axes = panels(len(wanted), columns, 2.6 if columns == 2 else 1.9, 0.2 * ceil(len(samples) / 4) + 0.3)
    for index, (panel, (label, metric)) in enumerate(zip(axes, wanted, strict=True)):
        _draw(panel, [p for p in pairs if (p["label"], p["metric"]) == (label, metric)], looks)
        panel.set_title(balanced(f"{label}: {METRICS[metric]}", 88 // columns))
        panel.set_xlabel("Published (%)" if index + columns >= len(wanted) else "")
        panel.set_ylabel("Reproduced (%)" if index % columns == 0 else "")
    legend_below(figure, 4, samples)
    return figure


def _pairs(content: dict[str, Any], table: dict[str, Any]) -> list[Pair]:
    """What stands in both: a published and a reproduced mean of one variant, dataset and metric."""
    numbers = {method["label"]: method["numbers"] for method in table["methods"]}
    found = []
    for row, metric in product(content["summaries"], METRICS):
        printed = numbers.get(row["method_label"], {}).get(row["dataset"], {}).get(metric)
        here = row["backbone"] == table["backbone"] and row["metrics"].get(metric)
        if printed and here:
            x = {"mean": float(printed["mean"]), "std": float(printed["std"] or "nan")}
            name = (row["dataset_label"], row["backbone_label"])
            found.append({"label": row["label"], "metric": metric, "name": name, "x": x, "y": row["metrics"][metric]})
    return found


def _looks(pairs: list[Pair]) -> dict[tuple[str, str], Look]:
    """Marker and colour by dataset, filling by backbone."""
    datasets = list(dict.fromkeys(pair["name"][0] for pair in pairs))
    backbones = list(dict.fromkeys(pair["name"][1] for pair in pairs))
    return {
        (dataset, backbone): {
            "color": COLORS[datasets.index(dataset) % len(COLORS)],
            "marker": [*MARKERS, "<", ">", "p"][datasets.index(dataset) % 10],
            "fillstyle": FILLS[backbones.index(backbone) % len(FILLS)],
            "linestyle": "",
            "markersize": 4.5,
        }
        for dataset, backbone in dict.fromkeys(pair["name"] for pair in pairs)
    }


def _samples(looks: dict[tuple[str, str], Look]) -> dict[str, Line2D]:
    """The legend: the marker of each dataset, and, in grey, how backbones are told apart."""
    samples = {dataset: Line2D([], [], **look | {"fillstyle": "full"}) for (dataset, _), look in looks.items()}
    grey = {"color": "0.4", "marker": "o"}
    return samples | {backbone: Line2D([], [], **look | grey) for (_, backbone), look in looks.items()}


def _draw(panel: Axes, pairs: list[Pair], looks: dict[tuple[str, str], Look]) -> None:
    """One variant and metric, with the diagonal."""
    for pair in pairs:
        x, y, look = pair["x"], pair["y"], looks[pair["name"]]
        panel.errorbar(x["mean"], y["mean"], y["std"], x["std"], color=look["color"], linewidth=0.6)
        panel.plot(x["mean"], y["mean"], label=", ".join(pair["name"]), **look)
    ends = [end for limits in (panel.get_xlim(), panel.get_ylim()) for end in limits] if pairs else [0, 100]
    panel.plot([min(ends), max(ends)], [min(ends), max(ends)], color="black", linewidth=0.6, zorder=0)
    panel.set(xlim=(min(ends), max(ends)), ylim=(min(ends), max(ends)), aspect="equal")
    grid(panel)
