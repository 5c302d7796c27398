"""Tables of a study's metrics: published tables with the reproduced numbers, then a table for each condition."""

from itertools import groupby

from ntkcl.reporting.study_metrics import StudyMetrics, VariantSummary
from ntkcl.reporting.tables.model import COLUMNS, Row, Table, best_of, expected_row, reproduced_cells
from ntkcl.reporting.tables.notes import notes_of, seeds_note, sentences
from ntkcl.reporting.tables.paper import paper_table


def tables_of(study: StudyMetrics) -> list[Table]:
    """Return the paper's tables, if the study has any, then one for each dataset and backbone with a run."""
    groups = [list(rows) for _, rows in groupby(study.summaries, key=lambda row: row.condition)]
    started = [rows for rows in groups if any(row.seeds for row in rows)]
    return [paper_table(study, paper) for paper in study.paper] + [_condition_table(study, rows) for rows in started]


def _condition_table(study: StudyMetrics, rows: list[VariantSummary]) -> Table:
    """All metrics on one dataset with one backbone."""
    first, seeds = rows[0], len(study.seeds)
    best = best_of(rows, COLUMNS, seeds)
    compared, joint = [], []
    for row in rows:
        section = joint if row.is_joint else compared
        section.append(Row(row.label, reproduced_cells(row, COLUMNS, seeds, best)))
        section += expected_row(study, row.variant, row.backbone, [row.dataset], COLUMNS)
    note = sentences(first.dataset_note, f"Split {study.splits[first.dataset][:12]}")
    return Table(
        name=f"{first.dataset}-{first.backbone}".replace("_", "-"),
        caption=(
            f"{first.dataset_label}, {len(first.task_sizes)} tasks, {first.backbone_label}. "
            f"In percent, {seeds_note(study.seeds)}. A dash: not run, or not defined."
        ),
        notes={"": note},
        common=notes_of(study),
        columns=COLUMNS,
        sections=[section for section in (compared, joint) if section],
    )
