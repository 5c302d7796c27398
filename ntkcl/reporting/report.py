"""The report of a study that is still running, from whatever has finished."""

import os
from pathlib import Path

from ntkcl import adoption
from ntkcl.reporting.collect import aggregate
from ntkcl.reporting.figures import write_figures
from ntkcl.reporting.show import show
from ntkcl.reporting.tables import write_tables


def report(study: str, digests: dict[Path, str]) -> None:
    """Make tables and figures of what has finished in `study`, and print them.

    Args:
        study: its name.
        digests: the present digest of each run's folder; runs of other settings count as missing.

    Raises:
        UserError: what `ntkcl.reporting.collect.aggregate` raises.
    """
    aggregate(study, digests, unfinished=True)
    write_tables()
    write_figures()
    for path in adoption.REPORTS:  # Snakemake must not take them for the report of a finished study
        os.utime(path, (adoption.LONG_AGO, adoption.LONG_AGO))
    show()
