"""The commands for tables and figures."""

import click


@click.command()
@click.argument("study")
def aggregate(study: str) -> None:
    """Collect the metrics of all runs of STUDY in reports/metrics.json."""
    from ntkcl.config import load_study, runs_of
    from ntkcl.reporting.collect import aggregate

    aggregate(study, {run.folder: run.digest for run in runs_of(load_study(study))})


@click.command()
@click.argument("study")
def analyze(study: str) -> None:
    """Compare the variants of STUDY, and collect what its kernels say: reports/analysis.json, .tex, .md, .html."""
    from ntkcl.config import load_study, runs_of
    from ntkcl.reporting.inside import analyze
    from ntkcl.reporting.inside_tables import write_analysis_tables

    analyze(study, {run.folder: run.digest for run in runs_of(load_study(study))})
    write_analysis_tables()


@click.command()
def tables() -> None:
    """Write reports/tables.tex, .md and .html from reports/metrics.json."""
    from ntkcl.reporting.tables import write_tables

    write_tables()


@click.command()
@click.option("--analysis", is_flag=True, help="Those of reports/analysis.json, instead.")
def figures(analysis: bool) -> None:
    """Draw reports/figures/ from reports/metrics.json, or from reports/analysis.json and the runs that it names."""
    from ntkcl.reporting.figures import write_analysis_figures, write_figures

    write_analysis_figures() if analysis else write_figures()


@click.command()
def show() -> None:
    """Print the table of the last study, and where everything is."""
    from ntkcl.reporting.show import show

    show()


@click.command("report")
@click.argument("study")
def report_command(study: str) -> None:
    """Tables and figures of what has finished in STUDY so far, while the rest is still running."""
    from ntkcl.config import load_study, runs_of
    from ntkcl.reporting.report import report

    report(study, {run.folder: run.digest for run in runs_of(load_study(study))})
