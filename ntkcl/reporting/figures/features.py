"""Features of images in the plane."""

from collections import Counter
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ntkcl.reporting.figures.analysis_data import Arrays, examples_of
from ntkcl.reporting.figures.style import COLORS, MARKERS, WIDTH, legend_below, panels, placeholder_figure

NAMES = ("channel", "patch", "hybrid", "feature")
MOST = 1000  # images: t-SNE takes seconds for so many


def features_figure(content: dict[str, Any]) -> Figure:
    """t-SNE of each kind of feature, a row for each dataset: colour and marker by task. Its axes mean nothing."""
    found = [(example, name) for example in examples_of(content) for name in NAMES if _known(example.arrays, name)]
    if not found:
        return placeholder_figure("No features have been kept yet.")
    counts = Counter(example.setting for example, _ in found)
    settings, columns = list(counts), max(counts.values())
    figure, axes = panels(len(settings) * columns, columns, WIDTH / columns + 0.2, 0.5, square=True)
    for row, setting in enumerate(settings):
        kinds = [(example, name) for example, name in found if example.setting == setting]
        line = axes[row * columns : (row + 1) * columns]
        for panel, (example, name) in zip(line, kinds, strict=False):
            _draw(panel, embedded(example.arrays[f"features/{name}"]), _thinned(example.arrays["features/tasks"]))
            panel.set_title(f"{example.variant}\n{name}")
        for unused in line[len(kinds) :]:
            unused.remove()
        line[0].set_ylabel(setting)
    legend_below(figure, 8)
    return figure


def embedded(features: np.ndarray) -> np.ndarray:
    """t-SNE of features (n, D) in the plane: at most `MOST` of them, evenly spaced; always the same."""
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    rows = _thinned(features)
    with threadpool_limits(1):  # sums of several threads come in any order
        return TSNE(init="pca", random_state=0, perplexity=min(30, (len(rows) - 1) / 3)).fit_transform(rows)


def _known(arrays: Arrays, name: str) -> bool:
    return len(arrays.get(f"features/{name}", [])) > 3 and "features/tasks" in arrays


def _thinned(rows: np.ndarray) -> np.ndarray:
    return rows[np.linspace(0, len(rows) - 1, min(MOST, len(rows))).round().astype(int)]


def _draw(panel: Axes, places: np.ndarray, tasks: np.ndarray) -> None:
    for task in np.unique(tasks):
        x, y = places[tasks == task].T
        look = {"marker": MARKERS[task % len(MARKERS)], "color": COLORS[task % len(COLORS)]}
        panel.plot(x, y, linestyle="", markersize=2.8, mew=0.25, mec="white", label=f"Task {task + 1}", **look)
    panel.set(xticks=[], yticks=[], box_aspect=1)
    panel.spines[:].set_visible(True)
