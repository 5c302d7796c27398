"""The report of a study that is still running, from whatever has finished."""

from pathlib import Path

from ntkcl.config import load_study
from ntkcl.reporting.collect import aggregate
from ntkcl.reporting.figures import write_analysis_figures, write_figures
from ntkcl.reporting.inside import analyze
from ntkcl.reporting.inside_tables import write_analysis_tables
from ntkcl.reporting.show import show
from ntkcl.reporting.tables import write_tables

SO_FAR = Path("reports") / "so_far"  # beside what Snakemake makes when all has finished


def report(study: str, digests: dict[Path, str]) -> None:
    """Make tables and figures of what has finished in `study` in `reports/so_far`, and print the tables.

    Args:
        study: its name.
        digests: the present digest of each run's folder; runs of other settings count as missing.

    Raises:
        UserError: what `ntkcl.reporting.collect.aggregate` raises.
    """
    content = aggregate(study, digests, unfinished=True, reports=SO_FAR)
    write_tables(SO_FAR)
    write_figures(SO_FAR)
    if content["runs"] and load_study(study).reference:
        analyze(study, digests, unfinished=True, reports=SO_FAR)
        write_analysis_tables(SO_FAR)
        write_analysis_figures(SO_FAR)
    show(SO_FAR)
