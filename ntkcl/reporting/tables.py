"""The tables of a study, in LaTeX (`booktabs` and `graphicx` are needed), in Markdown and for a browser."""

import re
from itertools import accumulate, groupby, pairwise
from pathlib import Path

from ntkcl.files import read_json, write_text
from ntkcl.reporting.cells import Cell, Row, Table
from ntkcl.reporting.collect import REPORTS
from ntkcl.reporting.html import page
from ntkcl.reporting.layout import tables_of
from ntkcl.reporting.notes import notes_of

LATEX_SPECIAL = str.maketrans(
    {character: f"\\{character}" for character in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"}
)
WIDTH = 6  # columns side by side: three datasets with two metrics each
LATEX_HEAD = (
    "% Made by ntkcl from metrics.json: \\input this file; the preamble needs \\usepackage{booktabs,graphicx}.\n"
)
SHRINK = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{"  # never wider than the text


def write_tables(reports: Path = REPORTS) -> None:
    """Write `tables.tex`, `.md` and `.html` from `metrics.json`, all in `reports`; equal content gives equal bytes.

    Raises:
        UserError: `metrics.json` is missing.
    """
    content = read_json(reports / "metrics.json")
    tables = tables_of(content)
    floats = [latex(part) for table in tables for part in table.folded(WIDTH)]
    write_text(reports / "tables.tex", "\n".join([LATEX_HEAD, *floats]))
    title, notes = content["title"], notes_of(content)
    parts = [f"# {escape_markdown(title)}\n", *map(markdown, tables), f"{escape_markdown(notes)}\n"]
    write_text(reports / "tables.md", "\n".join(parts))
    write_text(reports / "tables.html", page(title, tables, notes))


def escape_latex(text: str) -> str:
    """`text` as LaTeX prints it literally."""
    return text.translate(LATEX_SPECIAL)


def escape_markdown(text: str) -> str:
    """`text` as Markdown shows it literally, also inside a table."""
    return re.sub(r"([\\`*_|<>\[\]])", r"\\\1", text)


def latex(table: Table) -> str:
    """A float with a caption above, and its notes below: it stands for itself.

    It takes both columns, if the page has two, and what is still wider shrinks.
    """
    notes = " ".join([*table.notes.values(), table.common])
    lines = [
        r"\begin{table*}[htbp]",
        r"\centering\small\setlength{\tabcolsep}{4pt}\setlength{\belowcaptionskip}{4pt}",
        rf"\caption{{{escape_latex(table.caption)}}}",
        rf"\label{{tab:{table.name}}}",
        rf"{SHRINK}\begin{{tabular}}{{@{{}}l{'r' * len(table.columns)}@{{}}}}",
        r"\toprule",
        *_dataset_heads(table),
        rf"{' & '.join([escape_latex(table.head), *(column.latex for column in table.columns)])} \\",
        r"\midrule",
        "\n\\midrule\n".join(map(_latex_rows, table.sections)),
        r"\bottomrule",
        r"\end{tabular}}",
        rf"\par\smallskip\parbox{{\linewidth}}{{\footnotesize {escape_latex(notes)}}}",
        r"\end{table*}",
    ]
    return "\n".join(lines) + "\n"


def _dataset_heads(table: Table) -> list[str]:
    """The line of headings that each span the columns of one dataset, if there are several."""
    spans = [(label, len(list(columns))) for label, columns in groupby(table.columns, lambda column: column.dataset)]
    if not spans[0][0]:
        return []
    heads = [rf"\multicolumn{{{width}}}{{c}}{{{escape_latex(label)}}}" for label, width in spans]
    ends = list(accumulate((width for _, width in spans), initial=1))
    rules = [rf"\cmidrule(lr){{{first + 1}-{last}}}" for first, last in pairwise(ends)]
    return [rf" & {' & '.join(heads)} \\", "".join(rules)]


def _latex_rows(rows: list[Row]) -> str:
    """Rows; a little space between two methods that each have two lines."""
    lines = []
    for before, row in zip([None, *rows], rows, strict=False):
        if before and before.published and not row.published:
            lines.append(r"\addlinespace[2pt]")
        lines.append(" & ".join(_latex_row(row)) + r" \\")
    return "\n".join(lines)


def _latex_row(row: Row) -> list[str]:
    label = escape_latex(row.label)
    if row.published:
        return [rf"\quad\textit{{{label}}}", *map(published_latex_cell, row.cells)]
    return [label, *map(latex_cell, row.cells)]


def latex_cell(cell: Cell) -> str:
    """A reproduced cell for print."""
    if not cell.mean:
        return "--"
    mean = rf"\mathbf{{{cell.mean}}}" if cell.best else cell.mean
    std = rf"_{{\pm {cell.std}}}" if cell.std else ""
    seeds = f"^{{n={cell.seeds}}}" if cell.seeds else ""
    return f"${mean}{std}{seeds}$"


def published_latex_cell(cell: Cell) -> str:
    """A published cell for print, in italics."""
    if not cell.mean:
        return "--"
    return rf"\textit{{{cell.mean}}}" + (rf"$_{{\pm \mathit{{{cell.std}}}}}$" if cell.std else "")


def markdown(table: Table) -> str:
    """A caption, the table in parts of at most three datasets, and a list of notes. Published rows are in italics.

    Markdown has no rules: the joint rows simply come after the others.
    """
    parts = "\n\n".join(map(_markdown_grid, table.folded(WIDTH)))
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
    """A cell for reading in plain text; the best one between double asterisks."""
    if not cell.mean:
        return "–"
    text = cell.mean.replace("-", "−") + (f" ± {cell.std}" if cell.std else "")
    return (f"**{text}**" if cell.best else text) + (f" (n = {cell.seeds})" if cell.seeds else "")
