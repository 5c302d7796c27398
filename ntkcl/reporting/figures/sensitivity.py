"""What changes along a sweep: accuracies, forgetting and the measures of the kernel."""

from collections.abc import Iterable
from math import log10
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ntkcl.reporting.figures.analysis_data import setting_styles, settings_of
from ntkcl.reporting.figures.style import PAGE, SMALL, WIDTH, balanced, grid, legend_below, placeholder_figure

METRICS = {
    "average_accuracy": "Average\naccuracy (%)",
    "forgetting": "Forgetting\n(points)",
    "task_specific_gap": "Gap when learned\n(points)",
    "same_classes_gap": "Same-classes gap\n(points)",
    "effective_dimension": "Effective\ndimension",
    "alignment": "Kernel drift\n(1 − alignment)",
    "coupling": "Coupling\nof tasks",
}
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def sensitivity_figure(content: dict[str, Any]) -> Figure:
    """A column for each sweep, a row for each measure, a line for each dataset: mean and one deviation over seeds.

    The points stand at equal distances, for weights of 0 and of powers of ten; the reference is marked.
    """
    sweeps = [sweep for sweep in content.get("sweeps", []) if any(_known(sweep, metric) for metric in METRICS)]
    metrics = [metric for metric in METRICS if any(_known(sweep, metric) for sweep in sweeps)]
    if not sweeps:
        return placeholder_figure("No run of a sweep has finished yet.")
    figure = Figure(figsize=(WIDTH, min(PAGE, 1.08 * len(metrics) + 1.1)), layout="constrained")
    grid_of_axes = figure.subplots(len(metrics), len(sweeps), squeeze=False, sharex="col", sharey="row")
    for metric, row in zip(metrics, grid_of_axes, strict=True):
        for sweep, panel in zip(sweeps, row, strict=True):
            _draw(panel, sweep, metric, content)
        row[0].set_ylabel(METRICS[metric])
    _name(sweeps, grid_of_axes[0], grid_of_axes[-1])
    figure.align_ylabels(grid_of_axes[:, 0])
    legend_below(figure, 4)
    return figure


def _known(sweep: dict[str, Any], metric: str) -> bool:
    return any(cell and cell.get(metric) for point in sweep["points"] for cell in point["cells"].values())


def _name(sweeps: list[dict[str, Any]], top: Iterable[Axes], bottom: Iterable[Axes]) -> None:
    width = 76 // len(sweeps)  # characters that a column has room for
    for sweep, first, last in zip(sweeps, top, bottom, strict=True):
        first.set_title(balanced(sweep["title"], width))
        last.set_xlabel(balanced(sweep["axis"], width))


def _draw(panel: Axes, sweep: dict[str, Any], metric: str, content: dict[str, Any]) -> None:
    """One sweep and measure."""
    points = sweep["points"]
    for place in (place for place, point in enumerate(points) if point["variant"] == content["reference"]):
        said = f"As in {content['reference_label']}"
        panel.axvspan(place - 0.3, place + 0.3, color="0.9", linewidth=0, zorder=0, label=said)
    styles = setting_styles(content)
    for name, label in settings_of(content).items():
        if found := _found(points, name, metric):
            look = styles[name] | {"linewidth": 1.1, "markersize": 3.5, "elinewidth": 0.7, "capsize": 1.5}
            panel.errorbar(*zip(*found, strict=True), label=label.replace("\n", ", "), **look)
    turned = 45 if len(points) > 4 else 0  # or small powers of ten would touch
    panel.set_xticks(range(len(points)), [number(p["value"]) for p in points], size=SMALL, rotation=turned)
    panel.set_xlim(-0.45, len(points) - 0.55)
    grid(panel)


def _found(points: list[dict[str, Any]], setting: str, metric: str) -> list[tuple[int, float, float]]:
    """Place, mean and deviation of the points that are known; drift instead of alignment."""
    found = []
    for place, point in enumerate(points):
        if cell := (point["cells"].get(setting) or {}).get(metric):
            mean = 1 - cell["mean"] if metric == "alignment" else cell["mean"]
            found.append((place, mean, cell["std"] or 0.0))
    return found


def number(value: float) -> str:
    """A number of an axis; small powers of ten as such."""
    if 0 < value < 1 and log10(value).is_integer():
        return "10" + str(round(log10(value))).translate(SUPERSCRIPTS)
    return f"{value:g}"
