"""The files with the tables of a study: LaTeX, Markdown, HTML."""

from pathlib import Path

from ntkcl.reporting.collect import REPORTS
from ntkcl.reporting.tables.html import page
from ntkcl.reporting.tables.latex import LATEX_HEAD, latex
from ntkcl.reporting.tables.markdown import escape_markdown, markdown
from ntkcl.reporting.tables.model import WIDTH
from ntkcl.reporting.tables.notes import notes_of
from ntkcl.reporting.tables.study import tables_of
from ntkcl.storage.files import read_json, write_text


def write_tables(reports: Path = REPORTS) -> None:
    """Write `tables.tex`, `.md` and `.html` from `metrics.json`, all in `reports`; equal content gives equal bytes.

    Raises:
        UserError: `metrics.json` is missing.
    """
    content = read_json(reports / "metrics.json")
    tables = tables_of(content)
    floats = [latex(part) for table in tables for part in table.split_columns(WIDTH)]
    write_text(reports / "tables.tex", "\n".join([LATEX_HEAD, *floats]))
    title, notes = content["title"], notes_of(content)
    parts = [f"# {escape_markdown(title)}\n", *map(markdown, tables), f"{escape_markdown(notes)}\n"]
    write_text(reports / "tables.md", "\n".join(parts))
    write_text(reports / "tables.html", page(title, tables, notes))
