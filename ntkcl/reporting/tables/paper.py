"""A table of the paper: the published numbers, and beside them what was reproduced."""

from dataclasses import replace
from itertools import chain
from typing import Any

from ntkcl.reporting.tables.model import PAPER_COLUMNS, Cell, Row, Table, best_of, reproduced_cells
from ntkcl.reporting.tables.notes import commits_of, notes_about, seeds_note, sentences

PAPER = "arXiv 2407.17120"


def paper_table(content: dict[str, Any], paper: dict[str, Any]) -> Table:
    """Each method of the paper that the study has too in two lines, reproduced and published.

    Below stand what else was run and, alone, the published numbers of the paper's other methods.

    Args:
        content: what `ntkcl.reporting.collect.aggregate` wrote.
        paper: one of its `paper`.
    """
    here = [row for row in content["summaries"] if row["backbone"] == paper["backbone"]]
    summaries = [row for row in here if row["dataset"] in paper["datasets"]]
    run = [row for row in summaries if row["seeds"]]
    columns = [replace(column, dataset=label) for label in paper["dataset_labels"] for column in PAPER_COLUMNS]
    known = {method["label"] for method in paper["methods"]}
    others = [row for row in run if row["method_label"] not in known]
    rivals = _reproduced(content, paper, summaries, [row for row in others if row["protocol"] != "joint"])
    bounds = _reproduced(content, paper, summaries, [row for row in others if row["protocol"] == "joint"])
    sections = [_methods(content, paper, summaries), rivals, bounds, _published_only(paper, summaries)]
    return Table(
        name=f"paper-{paper['number']}".replace("_", "-"),
        caption=_caption(content, paper),
        notes=_datasets(content, paper),
        common=notes_about(content, columns, run, paper["provenance"]),
        columns=columns,
        sections=[rows for rows in sections if rows],
    )


def _methods(content: dict[str, Any], paper: dict[str, Any], summaries: list[dict[str, Any]]) -> list[Row]:
    """The paper's methods that the study has, in its order; a variant belongs to the one with its method's label."""
    rows = []
    for method in paper["methods"]:
        if ours := [row for row in summaries if row["method_label"] == method["label"]]:
            rows += _reproduced(content, paper, summaries, ours)
            rows.append(_published("published", method, paper["datasets"]))
    return rows


def _reproduced(
    content: dict[str, Any], paper: dict[str, Any], summaries: list[dict[str, Any]], ours: list[dict[str, Any]]
) -> list[Row]:
    """A row for each variant in `ours`, with its cells on all datasets of the table."""
    seeds, rows = len(content["seeds"]), []
    by_dataset = {name: [row for row in summaries if row["dataset"] == name] for name in paper["datasets"]}
    best = {name: best_of(rows, PAPER_COLUMNS, seeds) for name, rows in by_dataset.items()}
    for variant, label in {row["variant"]: row["label"] for row in ours}.items():
        of = {row["dataset"]: row for row in summaries if row["variant"] == variant}
        cells = [reproduced_cells(of.get(name), PAPER_COLUMNS, seeds, best[name]) for name in paper["datasets"]]
        rows.append(Row(label, list(chain(*cells))))
    return rows


def _published_only(paper: dict[str, Any], summaries: list[dict[str, Any]]) -> list[Row]:
    """The methods of the paper that the study does not have, in its order, under a heading."""
    here = {row["method_label"] for row in summaries}
    methods = [method for method in paper["methods"] if method["label"] not in here]
    rows = [_published(method["label"], method, paper["datasets"]) for method in methods]
    return [Row("Published only:", []), *rows] if rows else []


def _published(name: str, method: dict[str, Any], datasets: list[str]) -> Row:
    numbers = [method["numbers"].get(dataset, {}).get(c.metric, {}) for dataset in datasets for c in PAPER_COLUMNS]
    label = ", ".join(filter(None, (name, method["venue"])))
    return Row(label, [Cell(**number) for number in numbers], published=True)


def _caption(content: dict[str, Any], paper: dict[str, Any]) -> str:
    made = paper["provenance"]
    reproduced = "no run has finished yet"
    if made["devices"]:
        where = f"on {' and '.join(made['devices'])}, commit {commits_of(made)}"
        reproduced = f"study {content['study']}, {seeds_note(content['seeds'])}, {where}"
    return sentences(
        paper["title"],
        f"In italics the published numbers of Table {paper['number']} of {PAPER}; reproduced, upright: {reproduced}",
        "In percent; a dash: not run",
    )


def _datasets(content: dict[str, Any], paper: dict[str, Any]) -> dict[str, str]:
    """What a reader must know about each dataset, by its label, and the split that runs saw, as far as it is known."""
    notes, splits = {}, content.get("splits", {})
    for name, label, note in zip(paper["datasets"], paper["dataset_labels"], paper["dataset_notes"], strict=True):
        split = f"split {splits[name][:12]}" if name in splits else ""
        if said := "; ".join(filter(None, (note.rstrip("."), split))):
            notes[label] = sentences(f"{label}: {said}")
    return notes
