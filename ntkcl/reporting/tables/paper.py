"""A published table, with the reproduced numbers next to the published ones."""

from dataclasses import replace
from itertools import chain

from ntkcl.reporting.study_metrics import PublishedMethod, ReproducedTable, StudyMetrics, VariantSummary
from ntkcl.reporting.tables.model import PAPER_COLUMNS, Cell, Row, Table, best_of, expected_row, reproduced_cells
from ntkcl.reporting.tables.notes import commits_of, notes_about, seeds_note, sentences

PAPER = "arXiv 2407.17120"


def paper_table(study: StudyMetrics, paper: ReproducedTable) -> Table:
    """Return a table with two lines, reproduced and published, for each method that the study has too.

    Below are the other methods that were run and, alone, the published numbers of the paper's other methods.
    """
    rows = [row for row in study.summaries if row.backbone == paper.backbone and row.dataset in paper.datasets]
    run = [row for row in rows if row.seeds]
    columns = [replace(column, dataset=label) for label in paper.dataset_labels for column in PAPER_COLUMNS]
    published = {method.label for method in paper.methods}
    others = [row for row in run if row.method_label not in published]
    compared = _reproduced(study, paper, rows, [row for row in others if not row.is_joint])
    joint = _reproduced(study, paper, rows, [row for row in others if row.is_joint])
    sections = [_methods(study, paper, rows), compared, joint, _published_only(paper, rows)]
    return Table(
        name=f"paper-{paper.number}".replace("_", "-"),
        caption=_caption(study, paper),
        notes=_dataset_notes(study, paper),
        common=notes_about(study, columns, run, paper.provenance),
        columns=columns,
        sections=[section for section in sections if section],
    )


def _methods(study: StudyMetrics, paper: ReproducedTable, rows: list[VariantSummary]) -> list[Row]:
    """The paper's methods that the study has, in its order; a variant belongs to the one with its method's label."""
    lines = []
    for method in paper.methods:
        if ours := [row for row in rows if row.method_label == method.label]:
            lines += _reproduced(study, paper, rows, ours)
            lines.append(_published("published", method, paper.datasets))
    return lines


def _reproduced(
    study: StudyMetrics, paper: ReproducedTable, rows: list[VariantSummary], chosen: list[VariantSummary]
) -> list[Row]:
    """A line for each variant of `chosen`, with its cells on all datasets of the table."""
    seeds, lines = len(study.seeds), []
    best = {
        name: best_of([row for row in rows if row.dataset == name], PAPER_COLUMNS, seeds) for name in paper.datasets
    }
    for variant, label in {row.variant: row.label for row in chosen}.items():
        by_dataset = {row.dataset: row for row in rows if row.variant == variant}
        cells = [reproduced_cells(by_dataset.get(name), PAPER_COLUMNS, seeds, best[name]) for name in paper.datasets]
        lines.append(Row(label, list(chain(*cells))))
        lines += expected_row(study, variant, paper.backbone, paper.datasets, PAPER_COLUMNS)
    return lines


def _published_only(paper: ReproducedTable, rows: list[VariantSummary]) -> list[Row]:
    """The methods of the paper that the study does not have, in its order, under a heading."""
    ours = {row.method_label for row in rows}
    methods = [method for method in paper.methods if method.label not in ours]
    lines = [_published(method.label, method, paper.datasets) for method in methods]
    return [Row("Published only:", []), *lines] if lines else []


def _published(name: str, method: PublishedMethod, datasets: list[str]) -> Row:
    numbers = [method.numbers.get(dataset, {}).get(column.metric) for dataset in datasets for column in PAPER_COLUMNS]
    label = ", ".join(filter(None, (name, method.venue)))
    return Row(label, [Cell(number.mean, number.std) if number else Cell() for number in numbers], published=True)


def _caption(study: StudyMetrics, paper: ReproducedTable) -> str:
    reproduced = "no run has finished yet"
    if paper.provenance.devices:
        devices = f"on {' and '.join(paper.provenance.devices)}, commit {commits_of(paper.provenance)}"
        reproduced = f"study {study.study}, {seeds_note(study.seeds)}, {devices}"
    return sentences(
        paper.title,
        f"In italics the published numbers of Table {paper.number} of {PAPER}; reproduced, upright: {reproduced}",
        "In percent; a dash: not run",
    )


def _dataset_notes(study: StudyMetrics, paper: ReproducedTable) -> dict[str, str]:
    """The note on each dataset, by its label, and the split if there are runs."""
    notes = {}
    for name, label, note in zip(paper.datasets, paper.dataset_labels, paper.dataset_notes, strict=True):
        split = f"split {study.splits[name][:12]}" if name in study.splits else ""
        if text := "; ".join(filter(None, (note.rstrip("."), split))):
            notes[label] = sentences(f"{label}: {text}")
    return notes
