"""The tables of a study, in LaTeX (only `booktabs` is needed) and in Markdown."""

import re
from pathlib import Path

from ntkcl.files import read_json, write_text
from ntkcl.reporting.collect import REPORTS
from ntkcl.reporting.layout import COLUMNS, Cell, Row, Table, notes_of, tables_of

LATEX_SPECIAL = str.maketrans(
    {character: f"\\{character}" for character in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"}
)
LATEX_HEAD = "% Made by ntkcl from metrics.json: \\input this file; the preamble needs \\usepackage{booktabs}.\n"


def write_tables(reports: Path = REPORTS) -> None:
    """Write `tables.tex` and `tables.md` from `metrics.json`, all in `reports`; equal content gives equal bytes.

    Raises:
        UserError: `metrics.json` is missing.
    """
    content = read_json(reports / "metrics.json")
    tables, notes = tables_of(content), notes_of(content)
    files = {
        reports / "tables.tex": "\n".join([LATEX_HEAD, *(latex(table, notes) for table in tables)]),
        reports / "tables.md": "\n".join(
            [f"# {escape_markdown(content['title'])}\n", *map(markdown, tables), escape_markdown(notes) + "\n"]
        ),
    }
    for path, text in files.items():
        write_text(path, text)


def escape_latex(text: str) -> str:
    """`text` as LaTeX prints it literally."""
    return text.translate(LATEX_SPECIAL)


def escape_markdown(text: str) -> str:
    """`text` as Markdown shows it literally, also inside a table."""
    return re.sub(r"([\\`*_|<>\[\]])", r"\\\1", text)


def latex(table: Table, notes: str) -> str:
    """A float with a caption above, and the dataset's note and the common ones below: it stands for itself.

    Small, with narrow gaps: five metrics with their spread then fit the text width of a plain article.
    """
    head = " & ".join(["Method", *(column.latex for column in COLUMNS)])
    blocks = [_latex_rows(rows) for rows in (table.rows, table.bounds) if rows]
    lines = [
        r"\begin{table}[htbp]",
        r"\centering\small\setlength{\tabcolsep}{4pt}\setlength{\belowcaptionskip}{4pt}",
        rf"\caption{{{escape_latex(table.caption)}}}",
        rf"\label{{tab:{table.name}}}",
        rf"\begin{{tabular}}{{l{'r' * len(COLUMNS)}}}",
        r"\toprule",
        rf"{head} \\",
        r"\midrule",
        "\n\\midrule\n".join(blocks),
        r"\bottomrule",
        r"\end{tabular}",
        rf"\par\smallskip\parbox{{\linewidth}}{{\footnotesize {escape_latex(f'{table.note} {notes}'.strip())}}}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _latex_rows(rows: list[Row]) -> str:
    return "\n".join(" & ".join([escape_latex(label), *map(latex_cell, cells)]) + r" \\" for label, cells in rows)


def latex_cell(cell: Cell) -> str:
    """A cell for print."""
    if not cell.mean:
        return "--"
    mean = rf"\mathbf{{{cell.mean}}}" if cell.best else cell.mean
    std = rf"_{{\pm {cell.std}}}" if cell.std else ""
    seeds = f"^{{n={cell.seeds}}}" if cell.seeds else ""
    return f"${mean}{std}{seeds}$"


def markdown(table: Table) -> str:
    """A caption, the table and the dataset's note. Markdown has no rules: the joint rows come last, in italics."""
    heads = ["Method", *(escape_markdown(column.heading) for column in COLUMNS)]
    rows = [[escape_markdown(label), *map(text_cell, cells)] for label, cells in table.rows]
    rows += [[f"*{escape_markdown(label)}*", *map(text_cell, cells)] for label, cells in table.bounds]
    lines = [heads, ["---"] + ["---:"] * len(COLUMNS), *rows]
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"**{escape_markdown(table.caption)}**\n\n{text}\n\n{escape_markdown(table.note)}\n"


def text_cell(cell: Cell) -> str:
    """A cell for reading in plain text; the best one between double asterisks."""
    if not cell.mean:
        return "–"
    text = cell.mean.replace("-", "−") + (f" ± {cell.std}" if cell.std else "")
    return (f"**{text}**" if cell.best else text) + (f" (n = {cell.seeds})" if cell.seeds else "")
