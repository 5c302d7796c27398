"""The report of a study that is still running, from whatever has finished."""

from pathlib import Path

from ntkcl.analysis.compare import compare
from ntkcl.reporting.collect import aggregate
from ntkcl.reporting.figures.render import write_analysis_figures, write_figures
from ntkcl.reporting.study_metrics import REPORTS
from ntkcl.reporting.tables.terminal import show
from ntkcl.reporting.tables.write import write_comparison_tables, write_tables
from ntkcl.settings.files import load_study

SO_FAR = REPORTS / "so_far"  # Snakemake writes the files next to it when all runs have finished


def write_partial_report(study: str, digests: dict[Path, str]) -> None:
    """Write tables and figures of the finished runs of `study` to `reports/so_far`, and print the tables.

    Args:
        study: its name.
        digests: the current digest of each run's folder; runs of other settings count as missing.

    Raises:
        UserError: see `ntkcl.reporting.collect.aggregate`.
    """
    metrics = aggregate(study, digests, unfinished=True, reports=SO_FAR)
    write_tables(SO_FAR)
    write_figures(SO_FAR)
    if metrics.runs and load_study(study).reference:
        compare(study, digests, unfinished=True, reports=SO_FAR)
        write_comparison_tables(SO_FAR)
        write_analysis_figures(SO_FAR)
    show(SO_FAR)
