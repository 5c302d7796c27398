"""Captions and notes of tables: columns, joint runs, seeds, provenance."""

from ntkcl.reporting.study_comparison import StudyComparison
from ntkcl.reporting.study_metrics import Provenance, StudyMetrics, VariantSummary
from ntkcl.reporting.tables.model import COLUMNS, PAPER_COLUMNS, Column

PACKAGES = ("torch", "timm", "numpy", "ntkcl")  # the versions in the notes

EXPECTED = (
    "Expected, in italics: what the method's own paper, README or logs report, wider by two standard deviations, at "
    "least one point; sources in params/published/expected.csv"
)
JOINT = (
    "{label}: one model trained on all classes at once, an upper bound; after each task it is tested on the classes "
    "learned so far, with their scores alone."
)


def notes_of(study: StudyMetrics) -> str:
    """Return the notes for all tables: columns, joint runs, missing seeds, provenance."""
    columns = COLUMNS if study.runs else PAPER_COLUMNS  # without runs, there are only the paper's tables
    return notes_about(study, columns, study.summaries, study.provenance)


def notes_about(study: StudyMetrics, columns: list[Column], rows: list[VariantSummary], provenance: Provenance) -> str:
    """Return the notes for a table with `columns` and `rows`, and the provenance of its runs."""
    meanings = dict.fromkeys(column.meaning for column in columns)
    joint = dict.fromkeys(row.label for row in rows if row.is_joint)
    notes = [*meanings, *(JOINT.format(label=label) for label in joint), *dict.fromkeys(r.method_note for r in rows)]
    if any(0 < len(row.seeds) < len(study.seeds) for row in rows):
        notes.append("n: the number of seeds where some are missing")
    shown = {(row.variant, row.backbone, row.dataset) for row in rows}
    if any((each.variant, each.backbone, each.dataset) in shown for each in study.expected):
        notes.append(EXPECTED)
    return sentences(*notes, *provenance_note(study, provenance))


def provenance_note(study: StudyMetrics | StudyComparison, provenance: Provenance) -> list[str]:
    """Return the study's name, and devices, versions and commits if there are runs."""
    notes = [f"Study {study.study}: {study.title}"]
    if provenance.devices:
        versions = [
            f"{name} {' and '.join(provenance.versions[name])}" for name in PACKAGES if name in provenance.versions
        ]
        devices = ", ".join(provenance.devices)
        notes.append(f"Computed on {devices} with {', '.join(versions)}; commit {commits_of(provenance)}")
    if len(provenance.locks) > 1:
        notes.append(f"The runs come from different environments (lock files {', '.join(provenance.locks)})")
    if len(provenance.commits) > 1:
        notes.append("The runs were computed by different commits of the code")
    return notes


def seeds_note(seeds: list[int]) -> str:
    """Return the meaning of `mean ± std` over `seeds`."""
    names = ", ".join(map(str, seeds))
    return f"mean ± sample standard deviation over seeds {names}" if len(seeds) > 1 else f"seed {names}"


def commits_of(provenance: Provenance) -> str:
    """Return the commits, each as short as git shows it."""
    return ", ".join(commit[:12] for commit in provenance.commits)


def sentences(*texts: str) -> str:
    """Join the texts that are not empty, each with a full stop."""
    return " ".join(f"{text.rstrip('.')}." for text in texts if text)
