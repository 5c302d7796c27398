"""The report of a study that is still running, from whatever has finished."""

import os

from ntkcl import adoption
from ntkcl.config import load_study, runs_of
from ntkcl.reporting.collect import aggregate
from ntkcl.reporting.figures import write_figures
from ntkcl.reporting.show import show
from ntkcl.reporting.tables import write_tables


def report(study: str) -> None:
    """Make tables and figures of what has finished in `study`, and print them.

    Raises:
        UserError: a setting is wrong, or what `ntkcl.reporting.collect.aggregate` raises.
    """
    aggregate(study, {run.folder: run.digest for run in runs_of(load_study(study))}, unfinished=True)
    write_tables()
    write_figures()
    for path in adoption.REPORTS:  # Snakemake must not take them for the report of a finished study
        os.utime(path, (adoption.LONG_AGO, adoption.LONG_AGO))
    show()
