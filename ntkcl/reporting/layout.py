"""What stands where in the tables of a study, before any language: see `tables` for LaTeX and Markdown."""

from dataclasses import dataclass
from itertools import groupby
from typing import Any

PACKAGES = ("torch", "timm", "numpy", "ntkcl")  # the versions that a reader needs to know

METRICS = (
    "Ā: mean over tasks of the accuracy on all classes seen; A_T: the last of these. Forgetting: mean drop of a task's "
    "accuracy from its best to the end; BWT: backward transfer, mean change from when it was learned. Learning: mean "
    "accuracy on a task just after it was learned."
)
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
    Column("learning_accuracy", "Learning ↑", r"Learning $\uparrow$"),
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
    note: str
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
    return Table(
        name=f"{first['dataset']}-{first['backbone']}".replace("_", "-"),
        caption=(
            f"{first['dataset_label']}, {len(first['task_sizes'])} tasks, {first['backbone_label']}. "
            f"In percent, {_spread(seeds)}. A dash: not run, or without meaning."
        ),
        note=_sentence(first["dataset_note"]),
        rows=[_row(row, len(seeds), best) for row in incremental],
        bounds=[_row(row, len(seeds), {}) for row in joint],
    )


def _row(summary: dict[str, Any], seeds: int, best: dict[str, str | None]) -> Row:
    return summary["label"], [_cell(summary["metrics"][c.metric], seeds, best.get(c.metric)) for c in COLUMNS]


def _spread(seeds: list[int]) -> str:
    """What the cells show."""
    names = ", ".join(map(str, seeds))
    return f"mean ± sample standard deviation over seeds {names}" if len(seeds) > 1 else f"seed {names}"


def notes_of(content: dict[str, Any]) -> str:
    """What a reader must know about all tables: columns, joint rows, missing seeds, where the numbers come from."""
    made, summaries = content["provenance"], content["summaries"]
    joint = dict.fromkeys(row["label"] for row in summaries if row["protocol"] == "joint")
    notes = [METRICS, *(JOINT.format(label=label) for label in joint)]
    if any(0 < len(row["seeds"]) < len(content["seeds"]) for row in summaries):
        notes.append("n: the number of seeds where some are missing")
    versions = [f"{name} {' and '.join(made['versions'][name])}" for name in PACKAGES if name in made["versions"]]
    commits = ", ".join(commit[:12] for commit in made["commits"])
    notes.append(f"Study {content['study']}: {content['title']}")
    notes.append(f"Made on {', '.join(made['devices'])} with {', '.join(versions)}; commit {commits}")
    return " ".join(map(_sentence, notes))


def _sentence(text: str) -> str:
    """`text` with a full stop, if it says anything."""
    return f"{text.rstrip('.')}." if text else ""


def _best(summaries: list[dict[str, Any]], column: Column, seeds: int) -> str | None:
    """The best mean as it is printed; None where there is nothing to compare, or not over the same seeds."""
    values = [row["metrics"][column.metric] for row in summaries if row["metrics"][column.metric]]
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
