"""From a study's files to its figures' files."""

from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

import matplotlib

from ntkcl.errors import UserError
from ntkcl.reporting.collect import REPORTS
from ntkcl.reporting.figures import ANALYSIS_FIGURES, FIGURES, PUBLISHED_FIGURES
from ntkcl.reporting.figures.style import NO_DATE, STYLE, save
from ntkcl.storage.files import read_json


def write_figures(reports: Path = REPORTS) -> None:
    """Draw `figures/NAME.pdf` and `.png` from `metrics.json`, all in `reports`.

    NAME: each of `FIGURES`, and of `PUBLISHED_FIGURES` where the study reproduces a paper's tables.

    Raises:
        UserError: `metrics.json` is missing.
    """
    content = read_json(reports / "metrics.json")
    _write(FIGURES + (PUBLISHED_FIGURES if content.get("paper") else ()), content, reports / "figures")


def write_analysis_figures(reports: Path = REPORTS) -> None:
    """Draw `figures/NAME.pdf` and `.png` for each of `ANALYSIS_FIGURES` from `analysis.json`, all in `reports`.

    The files of runs that `analysis.json` names are read too; those that are not there are left out.

    Raises:
        UserError: `analysis.json` is missing, or a file of a run is damaged.
    """
    path = reports / "analysis.json"
    if not path.exists():
        raise UserError(f"{path} is missing; run `ntkcl report compare STUDY`, of a study with ablations or sweeps")
    _write(ANALYSIS_FIGURES, read_json(path), reports / "figures")


def _write(names: Iterable[str], content: dict[str, Any], folder: Path) -> None:
    for name in names:
        draw = getattr(import_module(f"ntkcl.reporting.figures.{name}"), f"{name}_figure")
        with matplotlib.rc_context(STYLE):
            figure = draw(content)
            for suffix in NO_DATE:
                save(figure, folder / f"{name}{suffix}")
