"""Tables in Markdown."""

import re
from collections.abc import Iterable

from ntkcl.reporting.tables.model import MAX_COLUMNS, Cell, Row, Table


def escape_markdown(text: str) -> str:
    """Escape `text` so that Markdown shows it literally, on one line, also inside a table."""
    return re.sub(r"([\\`*_|<>\[\]$~]|&(?=#?\w+;))", r"\\\1", " ".join(text.split()))


def markdown_file(title: str, tables: Iterable[Table], notes: str) -> str:
    """Return a file with all `tables` between a title and the notes for all of them."""
    parts = [f"# {escape_markdown(title)}\n", *map(markdown, tables), f"{escape_markdown(notes)}\n"]
    return "\n".join(parts)


def markdown(table: Table) -> str:
    """Return a caption, the table in parts of at most three datasets, and a list of notes.

    Published rows are in italics. Markdown has no rules between rows: the joint runs are the last rows.
    """
    parts = "\n\n".join(map(_markdown_grid, table.split_columns(MAX_COLUMNS)))
    notes = "\n".join(f"- {escape_markdown(note)}" for note in table.notes.values())
    return "\n\n".join(filter(None, (f"**{escape_markdown(table.caption)}**", parts, notes))) + "\n"


def _markdown_grid(table: Table) -> str:
    heads = [", ".join(filter(None, (column.dataset, column.heading))) for column in table.columns]
    rows = [_markdown_row(row) for rows in table.sections for row in rows]
    lines = [[escape_markdown(table.head), *map(escape_markdown, heads)], ["---"] + ["---:"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _markdown_row(row: Row) -> list[str]:
    cells = [escape_markdown(row.label), *map(text_cell, row.cells)]
    return [f"*{cell}*" for cell in cells] if row.published else cells


def text_cell(cell: Cell) -> str:
    """Return a cell in plain text; the best one between double asterisks."""
    if not cell.mean:
        return "–"
    text = cell.mean.replace("-", "−") + (f" ± {cell.std}" if cell.std else "")
    return (f"**{text}**" if cell.best else text) + (f" (n = {cell.seeds})" if cell.seeds else "")
