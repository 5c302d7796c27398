"""Arguments for the tables and figures of `snakemake --report`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ntkcl.reporting.entries import SECTIONS, TABLES, Entry
from ntkcl.settings.studies import Study

CAPTIONS = Path(".snakemake") / "captions"  # Snakemake wants a file for each


def report_arguments(study_name: str, study: Study, figures: Mapping[str, Entry]) -> dict[str, dict[str, Any]]:
    """Return the arguments of Snakemake's `report` for each table and figure of a study, and write the captions.

    Args:
        study_name: the study.
        study: its settings.
        figures: its figures, by name.

    Returns:
        The arguments, by the name of the file without suffix.
    """
    entries = {name: entry for name, entry in TABLES.items() if entry.source == "metrics" or study.reference}
    entries |= figures
    used = {entry.section for entry in entries.values()}
    sections = [section for section in SECTIONS if section in used]
    CAPTIONS.mkdir(parents=True, exist_ok=True)
    arguments = {}
    for name, entry in entries.items():
        caption = CAPTIONS.resolve() / f"{name}.rst"
        caption.write_text(entry.caption_of(study_name, study.seeds), encoding="utf-8")
        category = f"{sections.index(entry.section) + 1}. {entry.section}"  # Snakemake sorts them by name
        arguments[name] = {"category": category, "labels": {"Title": entry.title}, "caption": caption}
    return arguments
