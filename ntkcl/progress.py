"""Progress of what may take long: a bar with the remaining time on a terminal, now and then a line elsewhere."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

LINE_SECONDS = 10.0  # before the first line; the next ones come after a tenth of the time so far, if that is longer


Item = TypeVar("Item")


class Report(Protocol):
    """Called with the amount that is done; with a note, and with the total where that was not known before."""

    def __call__(self, done: int, note: str = "", total: int | None = None) -> None: ...


@contextmanager
def shown(
    name: str, total: int | None, unit: str = "", console: Console | None = None, in_bytes: bool = False
) -> Iterator[Report]:
    """Show the progress that the block reports.

    Args:
        name: the task, as "download".
        total: the whole amount, if it is known.
        unit: unit of the amounts, as "images".
        console: where to show it; standard error if not given.
        in_bytes: amounts are bytes, shown as MB or GB.
    """
    console = console or Console(stderr=True)
    if not console.is_terminal:
        yield lines(name, total, unit, console, decimal if in_bytes else "{:,}".format)
        return
    amount = DownloadColumn() if in_bytes else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), amount, TextColumn(unit), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task, known = bar.add_task(name, total=total), total

        def report(done: int, note: str = "", total: int | None = None) -> None:
            bar.update(task, completed=done, total=total or known, description=f"{name}, {note}" if note else name)

        yield report


def tracked(items: Iterable[Item], name: str, total: int, unit: str) -> Iterator[Item]:
    """Iterate over `items` and show how many of them are done; arguments as for `shown`."""
    with shown(name, total, unit) as report:
        for number, item in enumerate(items, start=1):
            yield item
            report(number)


def lines(
    name: str, known: int | None, unit: str, console: Console, amount: Callable[[int], str] = "{:,}".format
) -> Report:
    """Return a function that prints few of the reports as lines; arguments as for `shown`.

    Args:
        amount: formats an amount.
    """
    start, first = time.monotonic(), None
    due = start + LINE_SECONDS

    def report(done: int, note: str = "", total: int | None = None) -> None:
        nonlocal due, first
        now, total = time.monotonic(), total or known
        first = done if first is None else first  # a download that resumes does not start at 0
        if now < due:
            return
        due = now + max(LINE_SECONDS, (now - start) / 10)
        parts = [amount(done) + (f" of {amount(total)}" if total else "") + (f" {unit}" if unit else "")]
        parts += [note] if note else []
        if total and first < done < total:
            parts.append(f"about {_duration((now - start) * (total - done) / (done - first))} left")
        console.print(f"{name}: {', '.join(parts)}", highlight=False, soft_wrap=True)

    return report


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
