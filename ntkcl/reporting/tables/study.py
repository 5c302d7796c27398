"""What stands where in the tables of a study: see `tables` for LaTeX and Markdown, `show` for the terminal."""

from itertools import groupby
from typing import Any

from ntkcl.reporting.tables.model import COLUMNS, Row, Table, best_of, reproduced_cells
from ntkcl.reporting.tables.notes import notes_of, seeds_note, sentences
from ntkcl.reporting.tables.paper import paper_table


def tables_of(content: dict[str, Any]) -> list[Table]:
    """The paper's tables, if the study has any, then one for each (dataset, backbone) of which some run is there."""
    groups = groupby(content["summaries"], key=lambda row: (row["dataset"], row["backbone"]))
    groups = [list(rows) for _, rows in groups]
    started = [rows for rows in groups if any(row["seeds"] for row in rows)]
    paper = [paper_table(content, paper) for paper in content.get("paper", [])]
    return paper + [_dataset_table(content, rows) for rows in started]


def _dataset_table(content: dict[str, Any], summaries: list[dict[str, Any]]) -> Table:
    """All metrics on one dataset with one backbone."""
    first, seeds = summaries[0], content["seeds"]
    best = best_of(summaries, COLUMNS, len(seeds))
    rivals, bounds = [], []
    for row in summaries:
        section = bounds if row["protocol"] == "joint" else rivals
        section.append(Row(row["label"], reproduced_cells(row, COLUMNS, len(seeds), best)))
    split = content.get("splits", {}).get(first["dataset"])
    note = sentences(first["dataset_note"], f"Split {split[:12]}" if split else "")
    return Table(
        name=f"{first['dataset']}-{first['backbone']}".replace("_", "-"),
        caption=(
            f"{first['dataset_label']}, {len(first['task_sizes'])} tasks, {first['backbone_label']}. "
            f"In percent, {seeds_note(seeds)}. A dash: not run, or without meaning."
        ),
        notes={"": note} if note else {},
        common=notes_of(content),
        columns=COLUMNS,
        sections=[rows for rows in (rivals, bounds) if rows],
    )
