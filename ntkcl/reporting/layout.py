"""What stands where in the tables of a study, before any language: see `tables` for LaTeX and Markdown."""

from dataclasses import dataclass
from itertools import groupby
from typing import Any

PACKAGES = ("torch", "timm", "numpy", "ntkcl")  # the versions that a reader needs to know

JOINT = (
    "{label}: one model trained on all classes at once, an upper bound; at each task it is tested on the classes "
    "seen, with the scores of these classes alone."
)


@dataclass(frozen=True)
class Column:
    """A metric, its heading in plain text and in LaTeX, and whether more (1) or less (-1) of it is better."""

    metric: str
    heading: str
    latex: str
    sign: int = 1


COLUMNS = [
    Column("average_accuracy", "Ā ↑", r"$\bar{A}$ $\uparrow$"),
    Column("final_accuracy", "A_T ↑", r"$A_T$ $\uparrow$"),
    Column("forgetting", "Forgetting ↓", r"Forgetting $\downarrow$", sign=-1),
    Column("backward_transfer", "BWT ↑", r"BWT $\uparrow$"),
    Column("learning_accuracy", "Learning acc. ↑", r"Learning acc.\ $\uparrow$"),
]


@dataclass(frozen=True)
class Cell:
    """What stands in one cell: `mean ± std`, the number of seeds where some are missing, and whether it is the best."""

    mean: str = ""
    std: str = ""
    seeds: int | None = None
    best: bool = False


Row = tuple[str, list[Cell]]


@dataclass(frozen=True)
class Table:
    """The table of one dataset and backbone. `rows` and `bounds` (the joint runs): a variant's label and its cells."""

    name: str
    caption: str
    notes: list[str]
    rows: list[Row]
    bounds: list[Row]


def tables_of(content: dict[str, Any]) -> list[Table]:
    """One table for each (dataset, backbone) of the study, in its order."""
    groups = groupby(content["summaries"], key=lambda row: (row["dataset"], row["backbone"]))
    return [_table(content, list(rows)) for _, rows in groups]


def _table(content: dict[str, Any], summaries: list[dict[str, Any]]) -> Table:
    first, seeds = summaries[0], content["seeds"]
    incremental = [row for row in summaries if row["protocol"] != "joint"]
    joint = [row for row in summaries if row["protocol"] == "joint"]
    best = {column.metric: _best(incremental, column, len(seeds)) for column in COLUMNS}
    notes = [first["dataset_note"], *(JOINT.format(label=row["label"]) for row in joint), *_made_with(content)]
    return Table(
        name=f"{first['dataset']}-{first['backbone']}".replace("_", "-"),
        caption=(
            f"{first['dataset_label']}, {len(first['task_sizes'])} tasks, {first['backbone_label']}. "
            f"In percent, {_spread(seeds)}. A dash: not run, or without meaning."
        ),
        notes=[f"{note.rstrip('.')}." for note in notes if note],
        rows=[_row(row, len(seeds), best) for row in incremental],
        bounds=[_row(row, len(seeds), {}) for row in joint],
    )


def _row(summary: dict[str, Any], seeds: int, best: dict[str, str | None]) -> Row:
    return summary["label"], [_cell(summary["metrics"][c.metric], seeds, best.get(c.metric)) for c in COLUMNS]


def _spread(seeds: list[int]) -> str:
    """What the cells show."""
    names = ", ".join(map(str, seeds))
    return f"mean ± sample standard deviation over seeds {names}" if len(seeds) > 1 else f"seed {names}"


def _made_with(content: dict[str, Any]) -> list[str]:
    """Where the numbers come from."""
    made = content["provenance"]
    versions = [f"{name} {' and '.join(made['versions'][name])}" for name in PACKAGES if name in made["versions"]]
    commits = ", ".join(commit[:12] for commit in made["commits"])
    return [
        f"Study {content['study']}: {content['title']}",
        f"Made on {', '.join(made['devices'])} with {', '.join(versions)}; commit {commits}",
    ]


def _best(summaries: list[dict[str, Any]], column: Column, seeds: int) -> str | None:
    """The best mean as it is printed, among the variants with all seeds; None where there is nothing to compare."""
    values = [row["metrics"][column.metric] for row in summaries]
    means = [value["mean"] for value in values if value and value["n"] == seeds]
    return _number(max(means, key=lambda mean: column.sign * mean)) if len(means) > 1 else None


def _cell(value: dict[str, Any] | None, seeds: int, best: str | None) -> Cell:
    if value is None:
        return Cell()
    mean, complete = _number(value["mean"]), value["n"] == seeds
    std = "" if value["std"] is None else _number(value["std"])
    return Cell(mean, std, None if complete else value["n"], complete and mean == best)


def _number(value: float) -> str:
    """Two decimals, and no minus before a zero."""
    return f"{value:.2f}".replace("-0.00", "0.00")
