"""Files with the figures of a study: PDF and PNG."""

from pathlib import Path
from typing import Any

import matplotlib

from ntkcl.reporting.figures.figure import Figure, figures_from
from ntkcl.reporting.figures.style import FILE_METADATA, STYLE, save
from ntkcl.reporting.study_comparison import read_study_comparison
from ntkcl.reporting.study_metrics import REPORTS, read_study_metrics


def write_figures(reports: Path = REPORTS) -> None:
    """Plot `figures/NAME.pdf` and `.png` from `metrics.json`, all in `reports`; equal content gives equal bytes.

    Raises:
        UserError: `metrics.json` is missing, or does not fit.
    """
    study = read_study_metrics(reports)
    _write(figures_from("metrics", published=bool(study.paper)), study, reports / "figures")


def write_analysis_figures(reports: Path = REPORTS) -> None:
    """Plot `figures/NAME.pdf` and `.png` from `analysis.json`, all in `reports`; equal content gives equal bytes.

    The files of runs that `analysis.json` names are read too, as far as they exist.

    Raises:
        UserError: `analysis.json` is missing or does not fit, or a file of a run is damaged.
    """
    _write(figures_from("analysis"), read_study_comparison(reports), reports / "figures")


def _write(figures: dict[str, Figure], study: Any, folder: Path) -> None:
    for name, figure in figures.items():
        with matplotlib.rc_context(STYLE):
            plot = figure.draw(study)
            for suffix in FILE_METADATA:
                save(plot, folder / f"{name}{suffix}")
