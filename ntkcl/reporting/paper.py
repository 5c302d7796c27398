"""A table of the paper: the published numbers, and beside them what was reproduced."""

from dataclasses import replace
from itertools import chain
from typing import Any

from ntkcl.reporting.cells import COLUMNS, Cell, Row, Table, best_of, reproduced_cells
from ntkcl.reporting.notes import commits_of, notes_about, sentences, spread

PAPER = "arXiv 2407.17120"
SHOWN = COLUMNS[:2]  # the metrics that the paper prints


def paper_table(content: dict[str, Any], paper: dict[str, Any]) -> Table:
    """Each method of the paper in two lines, reproduced and published; below, what else was run.

    Args:
        content: what `ntkcl.reporting.collect.aggregate` wrote.
        paper: one of its `paper`.
    """
    here = [row for row in content["summaries"] if row["backbone"] == paper["backbone"]]
    summaries = [row for row in here if row["dataset"] in paper["datasets"]]
    run = [row for row in summaries if row["seeds"]]
    columns = [replace(column, dataset=label) for label in paper["dataset_labels"] for column in SHOWN]
    known = {method["label"] for method in paper["methods"]}
    others = [row for row in run if row["method_label"] not in known]
    rivals = _reproduced(content, paper, summaries, [row for row in others if row["protocol"] != "joint"])
    bounds = _reproduced(content, paper, summaries, [row for row in others if row["protocol"] == "joint"])
    return Table(
        name=f"paper-{paper['number']}".replace("_", "-"),
        caption=_caption(content, paper),
        note=_splits(content, run),
        common=notes_about(content, columns, run, paper["provenance"]),
        columns=columns,
        sections=[rows for rows in (_methods(content, paper, summaries), rivals, bounds) if rows],
    )


def _methods(content: dict[str, Any], paper: dict[str, Any], summaries: list[dict[str, Any]]) -> list[Row]:
    """The methods of the paper in its order; a variant belongs to the one that has its method's label."""
    rows = []
    for method in paper["methods"]:
        ours = [row for row in summaries if row["method_label"] == method["label"]]
        not_run = [Row(method["label"], [Cell()] * (len(SHOWN) * len(paper["datasets"])))]
        rows += _reproduced(content, paper, summaries, ours) or not_run
        rows.append(_published(method, paper["datasets"]))
    return rows


def _reproduced(
    content: dict[str, Any], paper: dict[str, Any], summaries: list[dict[str, Any]], ours: list[dict[str, Any]]
) -> list[Row]:
    """A row for each variant in `ours`, with its cells on all datasets of the table."""
    seeds, rows = len(content["seeds"]), []
    best = {name: best_of([r for r in summaries if r["dataset"] == name], SHOWN, seeds) for name in paper["datasets"]}
    for variant, label in {row["variant"]: row["label"] for row in ours}.items():
        of = {row["dataset"]: row for row in summaries if row["variant"] == variant}
        cells = [reproduced_cells(of.get(name), SHOWN, seeds, best[name]) for name in paper["datasets"]]
        rows.append(Row(label, list(chain(*cells))))
    return rows


def _published(method: dict[str, Any], datasets: list[str]) -> Row:
    numbers = [method["numbers"].get(name, {}).get(column.metric, {}) for name in datasets for column in SHOWN]
    label = ", ".join(filter(None, ("published", method["venue"])))
    return Row(label, [Cell(**number) for number in numbers], published=True)


def _caption(content: dict[str, Any], paper: dict[str, Any]) -> str:
    made = paper["provenance"]
    reproduced = "no run has finished yet"
    if made["devices"]:
        where = f"on {' and '.join(made['devices'])}, commit {commits_of(made)}"
        reproduced = f"study {content['study']}, {spread(content['seeds'])}, {where}"
    return sentences(
        paper["title"],
        f"In italics the published numbers of Table {paper['number']} of {PAPER}; reproduced, upright: {reproduced}",
        "In percent; a dash: not run",
    )


def _splits(content: dict[str, Any], run: list[dict[str, Any]]) -> str:
    """The split of each dataset that something was run on, as far as it was recorded."""
    labels, splits = {row["dataset"]: row["dataset_label"] for row in run}, content.get("splits", {})
    known = [f"{label} {splits[dataset][:12]}" for dataset, label in labels.items() if dataset in splits]
    return sentences(f"Splits: {', '.join(known)}") if known else ""
