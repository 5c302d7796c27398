"""Features of test images in the plane."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from ntkcl.reporting.figures.analysis_data import Arrays, example_runs
from ntkcl.reporting.figures.figure import Figure
from ntkcl.reporting.figures.style import COLORS, MARKERS, TEXT_WIDTH, legend_below, panels, placeholder_figure
from ntkcl.reporting.study_comparison import StudyComparison

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as MatplotlibFigure

KINDS = ("channel", "patch", "hybrid", "feature")
MAX_IMAGES = 1000  # t-SNE takes seconds for this many


def features_figure(study: StudyComparison) -> MatplotlibFigure:
    """t-SNE of each kind of feature, a row for each dataset: color and marker by task. The axes have no meaning."""
    found = [(run, kind) for run in example_runs(study) for kind in KINDS if _is_known(run.arrays, kind)]
    if not found:
        return placeholder_figure("No features have been kept yet.")
    counts = Counter(run.condition for run, _ in found)
    conditions, columns = list(counts), max(counts.values())
    height = TEXT_WIDTH / columns + 0.2
    figure, axes = panels(len(conditions) * columns, columns, height, 0.5, square=True)
    for index, condition in enumerate(conditions):
        in_row = [(run, kind) for run, kind in found if run.condition == condition]
        row = axes[index * columns : (index + 1) * columns]
        for panel, (run, kind) in zip(row, in_row, strict=False):
            _draw(panel, tsne(run.arrays[f"features/{kind}"]), _thinned(run.arrays["features/tasks"]))
            panel.set_title(f"{run.variant}\n{kind}")
        for unused in row[len(in_row) :]:
            unused.remove()
        row[0].set_ylabel(condition)
    legend_below(figure, 8)
    return figure


FIGURE = Figure(
    title="Features",
    section="Inside the kernel",
    source="analysis",
    files="``kernel.safetensors`` of the first measured seed",
    caption="""
        Features of test images after the last task, projected to the plane by t-SNE: a row for each dataset, a panel
        for each method and kind of feature; one run each. Color and marker show the task of an image. The axes have no
        meaning, and distances between groups have none.
    """,
    draw=features_figure,
)


def tsne(features: np.ndarray) -> np.ndarray:
    """Return t-SNE coordinates (n, 2) of features (N, D): n <= `MAX_IMAGES`, evenly spaced; always the same."""
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    rows = _thinned(features)
    with threadpool_limits(1):  # sums of several threads come in any order
        return TSNE(init="pca", random_state=0, perplexity=min(30, (len(rows) - 1) / 3)).fit_transform(rows)


def _is_known(arrays: Arrays, kind: str) -> bool:
    return len(arrays.get(f"features/{kind}", [])) > 3 and "features/tasks" in arrays


def _thinned(rows: np.ndarray) -> np.ndarray:
    return rows[np.linspace(0, len(rows) - 1, min(MAX_IMAGES, len(rows))).round().astype(int)]


def _draw(panel: Axes, points: np.ndarray, tasks: np.ndarray) -> None:
    for task in np.unique(tasks):
        x, y = points[tasks == task].T
        look = {"marker": MARKERS[task % len(MARKERS)], "color": COLORS[task % len(COLORS)]}
        panel.plot(x, y, linestyle="", markersize=2.8, mew=0.25, mec="white", label=f"Task {task + 1}", **look)
    panel.set(xticks=[], yticks=[], box_aspect=1)
    panel.spines[:].set_visible(True)
