"""Tables in LaTeX; the preamble needs `booktabs` and `graphicx`."""

from collections.abc import Iterable
from itertools import accumulate, groupby, pairwise

from ntkcl.reporting.tables.model import MAX_COLUMNS, Cell, Row, Table

LATEX_SPECIAL = str.maketrans(
    {character: f"\\{character}" for character in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"}
)
HEAD = "% Written by ntkcl from {source}: \\input this file; the preamble needs \\usepackage{{booktabs,graphicx}}.\n"
SHRINK_TO_TEXT = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{"  # never wider than the text


def latex_file(tables: Iterable[Table], source: str) -> str:
    """Return a file with all `tables`, wide ones in parts; `source` is the file that they are from."""
    floats = [latex(part) for table in tables for part in table.split_columns(MAX_COLUMNS)]
    return "\n".join([HEAD.format(source=source), *floats])


def escape_latex(text: str) -> str:
    """Escape `text` so that LaTeX prints it literally, on one line."""
    return " ".join(text.split()).translate(LATEX_SPECIAL)


def first_cell(text: str) -> str:
    """Escape the first cell of a row: LaTeX would take [ and * there for arguments of the line before."""
    return ("{}" if text.lstrip()[:1] in ("[", "*") else "") + escape_latex(text)


def latex(table: Table) -> str:
    """Return a float with a caption above and all notes below.

    It takes both columns if the page has two, and shrinks if it is still wider.
    """
    notes = " ".join([*table.notes.values(), table.common])
    lines = [
        r"\begin{table*}[htbp]",
        r"\centering\small\setlength{\tabcolsep}{4pt}\setlength{\belowcaptionskip}{4pt}",
        rf"\caption{{{escape_latex(table.caption)}}}",
        rf"\label{{tab:{table.name}}}",
        rf"{SHRINK_TO_TEXT}\begin{{tabular}}{{@{{}}l{'r' * len(table.columns)}@{{}}}}",
        r"\toprule",
        *_dataset_heads(table),
        rf"{' & '.join([first_cell(table.head), *(column.latex for column in table.columns)])} \\",
        r"\midrule",
        "\n\\midrule\n".join(map(_latex_rows, table.sections)),
        r"\bottomrule",
        r"\end{tabular}}",
        rf"\par\smallskip\parbox{{\linewidth}}{{\footnotesize {escape_latex(notes)}}}",
        r"\end{table*}",
    ]
    return "\n".join(lines) + "\n"


def _dataset_heads(table: Table) -> list[str]:
    """A line of headings that each span the columns of one dataset, if there are several."""
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
    if row.published:
        return [rf"\quad\textit{{{escape_latex(row.label)}}}", *map(published_latex_cell, row.cells)]
    return [first_cell(row.label), *map(latex_cell, row.cells)]


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
