"""The parts of a table, before it is written in any format."""

from dataclasses import dataclass, replace

from ntkcl.reporting.study_metrics import StudyMetrics, Summary, VariantSummary


@dataclass(frozen=True)
class Column:
    """A metric with its heading in plain text and in LaTeX.

    Args:
        metric: its name.
        heading: in plain text.
        latex: the heading in LaTeX.
        meaning: one sentence for the notes.
        sign: 1 if more is better, -1 if less is.
        dataset: label of the column's dataset, in a table of several.
    """

    metric: str
    heading: str
    latex: str
    meaning: str
    sign: int = 1
    dataset: str = ""


COLUMNS = [
    Column(
        "average_accuracy",
        "Ā ↑",
        r"$\bar{A}$ $\uparrow$",
        "Ā: mean over tasks of the accuracy on all classes learned so far",
    ),
    Column("final_accuracy", "A_T ↑", r"$A_T$ $\uparrow$", "A_T: the accuracy on all classes after the last task"),
    Column(
        "forgetting",
        "Forgetting ↓",
        r"Forgetting $\downarrow$",
        "Forgetting: mean drop of a task's accuracy from its best to the end",
        sign=-1,
    ),
    Column(
        "backward_transfer",
        "BWT ↑",
        r"BWT $\uparrow$",
        "BWT: backward transfer, mean change of a task's accuracy from when it was learned to the end",
    ),
    Column(
        "learning_accuracy",
        "Learning ↑",
        r"Learning $\uparrow$",
        "Learning: mean accuracy on a task just after it was learned",
    ),
]
PAPER_COLUMNS = COLUMNS[:2]  # the metrics that the paper prints
MAX_COLUMNS = 6  # next to each other: three datasets with two metrics each


@dataclass(frozen=True)
class Cell:
    """A cell: `mean ± std`, the number of seeds where some are missing, and whether it is the best of its column."""

    mean: str = ""
    std: str = ""
    seeds: int | None = None
    best: bool = False


@dataclass(frozen=True)
class Row:
    """A method's label and its cells: reproduced here, or `published` by a paper and marked as such.

    A row without cells is a heading of the rows below it.
    """

    label: str
    cells: list[Cell]
    published: bool = False


@dataclass(frozen=True)
class Table:
    """A table.

    Args:
        name: for references.
        caption: above the table.
        notes: about this table alone, by the `dataset` of the columns that they are about.
        common: notes that all tables of the study share.
        columns: without the first, which has the labels of the rows.
        sections: rows between two rules: compared methods; joint runs, which are upper bounds; published only.
        head: heading of the first column.
    """

    name: str
    caption: str
    notes: dict[str, str]
    common: str
    columns: list[Column]
    sections: list[list[Row]]
    head: str = "Method"

    def split_columns(self, width: int) -> list["Table"]:
        """Split the table into parts of `width` columns; a table of one dataset stays whole."""
        starts = range(0, len(self.columns), width)
        if not self.columns[0].dataset or len(starts) == 1:
            return [self]
        return [self._part(slice(start, start + width), n, len(starts)) for n, start in enumerate(starts, start=1)]

    def _part(self, columns: slice, number: int, count: int) -> "Table":
        datasets = [column.dataset for column in self.columns[columns]]
        return replace(
            self,
            name=f"{self.name}-part-{number}",
            caption=f"{self.caption} Part {number} of {count}.",
            notes={dataset: note for dataset, note in self.notes.items() if dataset in datasets},
            columns=self.columns[columns],
            sections=[[replace(row, cells=row.cells[columns]) for row in rows] for rows in self.sections],
        )


def reproduced_cells(
    row: VariantSummary | None, columns: list[Column], seeds: int, best: dict[str, str | None]
) -> list[Cell]:
    """Return the cells of one variant on one dataset; dashes if the study does not have it.

    Args:
        row: the summary of the variant.
        columns: metrics.
        seeds: number of the study's seeds.
        best: see `best_of`; a joint run is never the best.
    """
    if row is None:
        return [Cell()] * len(columns)
    best = {} if row.is_joint else best
    return [_cell(row.metrics[column.metric], seeds, best.get(column.metric)) for column in columns]


def expected_row(
    study: StudyMetrics, variant: str, backbone: str, datasets: list[str], columns: list[Column]
) -> list[Row]:
    """Return a row with the ranges expected of a variant, none without any; `columns` are those of each dataset."""
    ranges = {
        (each.dataset, each.metric): each.text
        for each in study.expected
        if (each.variant, each.backbone) == (variant, backbone)
    }
    cells = [Cell(ranges.get((name, column.metric), "")) for name in datasets for column in columns]
    return [Row("expected", cells, published=True)] if any(cell.mean for cell in cells) else []


def best_of(rows: list[VariantSummary], columns: list[Column], seeds: int) -> dict[str, str | None]:
    """Return for each metric the best mean as it is printed; joint runs are not compared.

    It is None with fewer than two methods, or if one lacks a seed.
    """
    compared = [row for row in rows if not row.is_joint]
    return {column.metric: _best(compared, column, seeds) for column in columns}


def _best(rows: list[VariantSummary], column: Column, seeds: int) -> str | None:
    values = [value for row in rows if (value := row.metrics[column.metric])]
    if len(values) < 2 or any(value.n < seeds for value in values):
        return None
    return two_decimals(max((value.mean for value in values), key=lambda mean: column.sign * mean))


def _cell(value: Summary | None, seeds: int, best: str | None) -> Cell:
    if value is None:
        return Cell()
    mean = two_decimals(value.mean)
    std = "" if value.std is None else two_decimals(value.std)
    return Cell(mean, std, None if value.n == seeds else value.n, mean == best)


def two_decimals(value: float, sign: str = "-") -> str:
    """Format `value` without a minus before a zero; `sign` as in Python's format strings."""
    return f"{round(value, 2) + 0.0:{sign}.2f}"
