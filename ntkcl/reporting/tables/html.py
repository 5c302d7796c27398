"""Tables as a page for a browser: one file that needs neither scripts nor a network."""

from collections.abc import Iterable
from html import escape
from itertools import groupby

from ntkcl.reporting.tables.model import Cell, Row, Table

STYLE = """\
body { margin: 1.5rem; max-width: 75rem; color: #111; background: #fff; font: 0.95rem/1.45 system-ui, sans-serif; }
h1 { font-size: 1.4rem; }
section { margin: 2rem 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; border-bottom: 2px solid #111; font-variant-numeric: tabular-nums; }
caption { padding-bottom: 0.5rem; text-align: left; }
th, td { padding: 0.2rem 0.5rem; text-align: right; white-space: nowrap; }
th { font-weight: 600; }
tr:first-child > th:first-child, th[scope="row"] { text-align: left; }
th[scope="row"] { font-weight: 400; }
th[scope="colgroup"] { text-align: center; }
thead { border-top: 2px solid #111; }
tbody { border-top: 1px solid #111; }
tr.published { color: #555; font-style: italic; }
tr.published th { padding-left: 2rem; }
.notes, caption { color: #333; font-size: 0.85rem; }
"""


def html_file(title: str, tables: Iterable[Table], notes: str) -> str:
    """Return a page with all `tables`, each with its own notes, and the notes for all of them."""
    head = f'<meta charset="utf-8">\n<title>{escape(title)}</title>\n<style>\n{STYLE}</style>'
    body = "\n".join([f"<h1>{escape(title)}</h1>", *map(html, tables), _paragraph(notes)])
    return f'<!DOCTYPE html>\n<html lang="en">\n<head>\n{head}\n</head>\n<body>\n{body}\n</body>\n</html>\n'


def html(table: Table) -> str:
    """Return the table with its caption and its own notes; published rows in italics, the best cells strong."""
    name = escape(table.name)
    lines = [
        "<section>",
        f'<div class="wide" tabindex="0" role="region" aria-labelledby="{name}">',  # the keyboard can scroll it
        "<table>",
        f'<caption id="{name}">{escape(table.caption)}</caption>',
        *_heads(table),
        *(_body(rows, len(table.columns)) for rows in table.sections),
        "</table>",
        "</div>",
        *map(_paragraph, table.notes.values()),
        "</section>",
    ]
    return "\n".join(lines)


def _heads(table: Table) -> list[str]:
    """One line of headings, or two where there are several datasets: each spans its columns."""
    spans = [(label, len(list(columns))) for label, columns in groupby(table.columns, lambda column: column.dataset)]
    groups = "".join(f'<colgroup span="{width}"></colgroup>' for _, width in spans)
    names = "".join(
        f'<th scope="col" title="{escape(column.meaning)}">{escape(column.heading)}</th>' for column in table.columns
    )
    if not spans[0][0]:
        rows = [f'<tr><th scope="col">{escape(table.head)}</th>{names}</tr>']
    else:
        over = "".join(f'<th scope="colgroup" colspan="{width}">{escape(label)}</th>' for label, width in spans)
        rows = [f'<tr><th scope="col" rowspan="2">{escape(table.head)}</th>{over}</tr>', f"<tr>{names}</tr>"]
    return [f"<colgroup></colgroup>{groups}", "<thead>", *rows, "</thead>"]


def _body(rows: list[Row], columns: int) -> str:
    return "\n".join(["<tbody>", *(_row(row, columns) for row in rows), "</tbody>"])


def _row(row: Row, columns: int) -> str:
    if not row.cells:
        return f'<tr><th scope="rowgroup" colspan="{columns + 1}">{escape(row.label)}</th></tr>'
    cells = "".join(f"<td>{html_cell(cell)}</td>" for cell in row.cells)
    kind = ' class="published"' if row.published else ""
    return f'<tr{kind}><th scope="row">{escape(row.label)}</th>{cells}</tr>'


def html_cell(cell: Cell) -> str:
    """Return the content of a cell."""
    if not cell.mean:
        return "–"
    text = cell.mean.replace("-", "−") + (f" ± {cell.std}" if cell.std else "")
    return (f"<strong>{text}</strong>" if cell.best else text) + (f" (n = {cell.seeds})" if cell.seeds else "")


def _paragraph(text: str) -> str:
    return f'<p class="notes">{escape(text)}</p>'
