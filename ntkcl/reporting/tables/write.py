"""Files with the tables of a study: LaTeX, Markdown, HTML."""

from pathlib import Path

from ntkcl.reporting.study_comparison import read_study_comparison
from ntkcl.reporting.study_metrics import REPORTS, read_study_metrics
from ntkcl.reporting.tables.comparisons import comparison_notes, comparison_tables
from ntkcl.reporting.tables.html import html_file
from ntkcl.reporting.tables.latex import latex_file
from ntkcl.reporting.tables.markdown import markdown_file
from ntkcl.reporting.tables.model import Table
from ntkcl.reporting.tables.notes import notes_of
from ntkcl.reporting.tables.study import tables_of
from ntkcl.storage.files import write_text


def write_tables(reports: Path = REPORTS) -> None:
    """Write `tables.tex`, `.md` and `.html` from `metrics.json`, all in `reports`; equal content gives equal bytes.

    Raises:
        UserError: `metrics.json` is missing, or does not fit.
    """
    study = read_study_metrics(reports)
    _write(reports, "tables", "metrics.json", study.title, tables_of(study), notes_of(study))


def write_comparison_tables(reports: Path = REPORTS) -> None:
    """Write `analysis.tex`, `.md` and `.html` from `analysis.json`, all in `reports`; equal content gives equal bytes.

    Raises:
        UserError: `analysis.json` is missing, or does not fit.
    """
    study = read_study_comparison(reports)
    _write(reports, "analysis", "analysis.json", study.title, comparison_tables(study), comparison_notes(study))


def _write(reports: Path, name: str, source: str, title: str, tables: list[Table], notes: str) -> None:
    write_text(reports / f"{name}.tex", latex_file(tables, source))
    write_text(reports / f"{name}.md", markdown_file(title, tables, notes))
    write_text(reports / f"{name}.html", html_file(title, tables, notes))
