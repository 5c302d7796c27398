"""What a table consists of, before any language."""

from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Column:
    """A metric, its heading in plain text and in LaTeX, what it means, and whether more (1) or less (-1) is better.

    `dataset` is the label of the column's dataset, in a table of several.
    """

    metric: str
    heading: str
    latex: str
    meaning: str
    sign: int = 1
    dataset: str = ""


COLUMNS = [
    Column(
        "average_accuracy", "Ā ↑", r"$\bar{A}$ $\uparrow$", "Ā: mean over tasks of the accuracy on all classes seen"
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
WIDTH = 6  # columns next to each other: three datasets with two metrics each


@dataclass(frozen=True)
class Cell:
    """What stands in one cell: `mean ± std`, the number of seeds where some are missing, and whether it is the best."""

    mean: str = ""
    std: str = ""
    seeds: int | None = None
    best: bool = False


@dataclass(frozen=True)
class Row:
    """A method's label and its cells: reproduced here, or `published` by a paper and shown so that nobody errs.

    A row without cells is a heading of those below it.
    """

    label: str
    cells: list[Cell]
    published: bool = False


@dataclass(frozen=True)
class Table:
    """A table. `sections` are parted by rules: rivals; the joint runs, which bound them; what is published only.

    `notes` are about this table alone, by the `dataset` of the columns that they are about; with `common` the table
    stands for itself. `head` says what the rows are.
    """

    name: str
    caption: str
    notes: dict[str, str]
    common: str
    columns: list[Column]
    sections: list[list[Row]]
    head: str = "Method"

    def split_columns(self, width: int) -> list["Table"]:
        """The table in parts of `width` columns; a table of one dataset stays whole."""
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
    summary: dict[str, Any] | None, columns: list[Column], seeds: int, best: dict[str, str | None]
) -> list[Cell]:
    """The cells of one variant on one dataset, from its summary; dashes if the study does not have it.

    `best` is what `best_of` found; a joint run is never the best.
    """
    if summary is None:
        return [Cell()] * len(columns)
    best = {} if summary["protocol"] == "joint" else best
    return [_cell(summary["metrics"][column.metric], seeds, best.get(column.metric)) for column in columns]


def best_of(summaries: list[dict[str, Any]], columns: list[Column], seeds: int) -> dict[str, str | None]:
    """For each metric the best mean of rivals as it is printed; joint runs do not compete.

    It is None where there is nothing to compare, or not over the same seeds.
    """
    rivals = [row for row in summaries if row["protocol"] != "joint"]
    return {column.metric: _best(rivals, column, seeds) for column in columns}


def _best(rivals: list[dict[str, Any]], column: Column, seeds: int) -> str | None:
    values = [row["metrics"][column.metric] for row in rivals if row["metrics"][column.metric]]
    if len(values) < 2 or any(value["n"] < seeds for value in values):
        return None
    return _number(max((value["mean"] for value in values), key=lambda mean: column.sign * mean))


def _cell(value: dict[str, Any] | None, seeds: int, best: str | None) -> Cell:
    if value is None:
        return Cell()
    mean = _number(value["mean"])
    std = "" if value["std"] is None else _number(value["std"])
    return Cell(mean, std, None if value["n"] == seeds else value["n"], mean == best)


def _number(value: float) -> str:
    """Two decimals, and no minus before a zero."""
    return f"{value:.2f}".replace("-0.00", "0.00")
