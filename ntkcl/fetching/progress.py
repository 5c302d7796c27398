"""Progress of a download: a bar in a terminal, otherwise a line every tenth."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

STEP_BYTES = 100_000_000  # between two lines if the size is not known
Report = Callable[[int, int | None], None]


@contextmanager
def shown(name: str, approx_bytes: int | None, console: Console) -> Iterator[Report]:
    """Yield a function to call with the bytes so far and the total, if it is known (else `approx_bytes`)."""
    if not console.is_terminal:
        yield _lines(name, approx_bytes, console)
        return
    columns = [TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()]
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
        task = bar.add_task(name, total=approx_bytes)
        yield lambda have, whole: bar.update(task, completed=have, total=whole or approx_bytes)


def _lines(name: str, approx_bytes: int | None, console: Console) -> Report:
    printed = None

    def report(have: int, whole: int | None) -> None:
        nonlocal printed
        size = whole or approx_bytes
        tenth = have * 10 // size if size else have // STEP_BYTES
        if tenth != printed:
            of = f" of {decimal(size)}" if size else ""
            console.print(f"{name}: {decimal(have)}{of}", highlight=False, soft_wrap=True)
        printed = tenth

    return report
