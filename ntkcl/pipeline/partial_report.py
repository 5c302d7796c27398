"""The report of a study that is still running, from whatever has finished."""

from pathlib import Path

from ntkcl.analysis.compare import compare
from ntkcl.reporting.collect import aggregate
from ntkcl.reporting.figures.render import write_analysis_figures, write_figures
from ntkcl.reporting.tables.comparisons import write_comparison_tables
from ntkcl.reporting.tables.terminal import show
from ntkcl.reporting.tables.write import write_tables
from ntkcl.settings.files import load_study

SO_FAR = Path("reports") / "so_far"  # beside what Snakemake makes when all has finished


def write_partial_report(study: str, digests: dict[Path, str]) -> None:
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
        compare(study, digests, unfinished=True, reports=SO_FAR)
        write_comparison_tables(SO_FAR)
        write_analysis_figures(SO_FAR)
    show(SO_FAR)
