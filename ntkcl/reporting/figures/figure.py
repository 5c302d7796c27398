"""The model of `FIGURE` in a figure's file, and the figures of a study.

Snakemake reads every figure's file for its title and caption. So the files import matplotlib only while plotting, see
`ntkcl.reporting.figures.style`.
"""

from collections.abc import Callable
from typing import Any

from pydantic import Field

from ntkcl.registry import FIGURES
from ntkcl.reporting.entries import SECTIONS, Entry, Source


class Figure(Entry):
    """A figure of the report: `FIGURE` in `ntkcl/reporting/figures/NAME.py`."""

    draw: Callable[[Any], Any] = Field(
        description="takes the `StudyMetrics` or `StudyComparison` of `source`, returns a matplotlib figure"
    )
    needs_published: bool = Field(False, description="only for studies that reproduce published tables")


def figures_from(source: Source, *, published: bool = False) -> dict[str, Figure]:
    """Return the figures of `source`, by name, in the order of the report.

    Args:
        source: "metrics", or "analysis" (of studies that compare variants with a reference).
        published: the study reproduces published tables.
    """
    figures = {name: FIGURES.load(name) for name in FIGURES.names()}
    chosen = {
        name: figure
        for name, figure in figures.items()
        if figure.source == source and (published or not figure.needs_published)
    }
    return dict(sorted(chosen.items(), key=lambda item: SECTIONS.index(item[1].section)))
