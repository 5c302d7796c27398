"""What Snakemake's logger `rich` lacks: progress in a file or pipe, and failed jobs without a log."""

import logging
from collections.abc import Iterator
from pathlib import Path

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


class _Existing(list):
    """Paths, of which those that exist are seen, whenever one looks."""

    def __iter__(self) -> Iterator[str]:
        return (path for path in super().__iter__() if Path(path).exists())


def _see_existing_logs(record: logging.LogRecord) -> bool:
    if getattr(record, "event", None) == "job_info":
        record.log = _Existing(record.log)
    return True


def show_existing_logs_only() -> None:
    """Let a failed group of jobs show the logs that there are: the logger opens those of jobs that have not begun."""
    from snakemake.logging import logger

    logger.addFilter(_see_existing_logs)


def print_finished_jobs() -> None:
    """Print lines while Snakemake, in this process, runs its jobs."""
    from snakemake.logging import logger

    logger.addHandler(_FinishedJobs())
