"""How a download shows its progress: a bar on a terminal, else a line every tenth."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

UNKNOWN_STEP = 100_000_000  # bytes between two lines where the size is not known
Report = Callable[[int, int | None], None]


@contextmanager
def shown(name: str, about: int | None, console: Console) -> Iterator[Report]:
    """What is to be called with the bytes that are there and those of the whole, if known (else they are `about`)."""
    if not console.is_terminal:
        yield _lines(name, about, console)
        return
    columns = [TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()]
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
        task = bar.add_task(name, total=about)
        yield lambda have, whole: bar.update(task, completed=have, total=whole or about)


def _lines(name: str, about: int | None, console: Console) -> Report:
    printed = None

    def report(have: int, whole: int | None) -> None:
        nonlocal printed
        size = whole or about
        tenth = have * 10 // size if size else have // UNKNOWN_STEP
        if tenth != printed:
            of = f" of {decimal(size)}" if size else ""
            console.print(f"{name}: {decimal(have)}{of}", highlight=False, soft_wrap=True)
        printed = tenth

    return report
