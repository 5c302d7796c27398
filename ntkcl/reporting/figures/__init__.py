"""All figures, drawn from what was measured: no training, no torch, and equal content gives equal bytes.

The figure NAME is drawn by `NAME_figure` of the module NAME, from the content of the study's file alone (and the files
of runs that it names). Importing this package is cheap: the pipeline needs only the names.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ntkcl.reporting.figures.accuracy import accuracy_figure
    from ntkcl.reporting.figures.render import write_analysis_figures, write_figures

FIGURES = ("accuracy", "matrices", "forgetting")  # of every study, from its metrics
PUBLISHED_FIGURES = ("published",)  # of a study that reproduces a paper's tables, beside these
ANALYSIS_FIGURES = ("ablations", "sensitivity", "gaps", "kernels", "spectra", "features", "forecast")

__all__ = [
    "ANALYSIS_FIGURES",
    "FIGURES",
    "PUBLISHED_FIGURES",
    "accuracy_figure",
    "write_analysis_figures",
    "write_figures",
]


def __getattr__(name: str) -> Any:
    """Import what draws only when it is asked for: matplotlib takes a second."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "accuracy" if name == "accuracy_figure" else "writing"
    return getattr(import_module(f"{__name__}.{module}"), name)
