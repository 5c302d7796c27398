"""Lines with the number of finished jobs in a file or pipe, where Snakemake's logger `rich` prints no progress."""

import logging

from rich.console import Console

from ntkcl.progress import lines


class _FinishedJobs(logging.Handler):
    """Handles Snakemake's events "progress", one for each finished job."""

    def __init__(self) -> None:
        super().__init__()
        self.report = lines("pipeline", None, "jobs done", Console(stderr=True))

    def emit(self, record: logging.LogRecord) -> None:
        """Report the jobs."""
        if getattr(record, "event", None) == "progress":
            self.report(record.done, total=record.total)


def print_finished_jobs() -> None:
    """Print lines while Snakemake, in this process, runs its jobs."""
    from snakemake.logging import logger

    logger.addHandler(_FinishedJobs())
