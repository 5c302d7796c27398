"""`ntkcl report`: from the files of runs to tables and figures."""

from pathlib import Path

import click

from ntkcl.commands.options import Commands


@click.group(cls=Commands)
def report() -> None:
    """Metrics, tables and figures of a study."""


def digests(study: str) -> dict[Path, str]:
    """The present digest of the folder of each run of `study`."""
    from ntkcl.runs import runs_of
    from ntkcl.settings.files import load_study

    return {run.folder: run.digest for run in runs_of(load_study(study))}


@report.command()
@click.argument("study")
def aggregate(study: str) -> None:
    """Collect the metrics of all runs of STUDY in reports/metrics.json."""
    from ntkcl.reporting.collect import aggregate

    aggregate(study, digests(study))


@report.command()
@click.argument("study")
def compare(study: str) -> None:
    """Compare the variants of STUDY, and collect its kernel measures: reports/analysis.json, .tex, .md, .html."""
    from ntkcl.analysis.compare import compare
    from ntkcl.reporting.tables.write import write_comparison_tables

    compare(study, digests(study))
    write_comparison_tables()


@report.command()
def tables() -> None:
    """Write reports/tables.tex, .md and .html from reports/metrics.json."""
    from ntkcl.reporting.tables.write import write_tables

    write_tables()


@report.command()
@click.option("--analysis", is_flag=True, help="The figures of reports/analysis.json instead.")
def figures(analysis: bool) -> None:
    """Plot reports/figures/ from reports/metrics.json, or from reports/analysis.json and the runs that it names."""
    from ntkcl.reporting.figures.render import write_analysis_figures, write_figures

    write_analysis_figures() if analysis else write_figures()


@report.command()
def show() -> None:
    """Print the tables of the last study, and the paths of all results."""
    from ntkcl.reporting.tables.terminal import show

    show()


@report.command()
@click.argument("study")
def partial(study: str) -> None:
    """Write tables and figures of the finished runs of STUDY to reports/so_far/, while the rest is still running."""
    from ntkcl.pipeline.partial_report import write_partial_report

    write_partial_report(study, digests(study))
