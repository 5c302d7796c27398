"""Progress of computing a kernel: a bar in a terminal, otherwise nothing."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich import progress as bars
from rich.console import Console

Report = Callable[[int, int], None]
"""Called with the amount done and the total, in inputs or pairs of inputs."""

Progress = bool | Report
"""True: a bar in terminals. False: nothing. Or a function to call."""


@contextmanager
def counted(progress: Progress, total: int) -> Iterator[Callable[[int], None]]:
    """Yield a function to call with each amount that is done; it reports to `progress`, or to a bar if that is True."""
    if progress is not True:
        yield _adding(progress or (lambda done, total: None), total)
        return
    console = Console(stderr=True)
    with bars.Progress(console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("tangent kernel", total=total)
        yield lambda amount: bar.advance(task, amount)


def _adding(report: Report, total: int) -> Callable[[int], None]:
    done = 0

    def add(amount: int) -> None:
        nonlocal done
        done += amount
        report(done, total)

    return add
