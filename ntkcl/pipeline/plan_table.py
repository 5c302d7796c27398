"""The table of `ntkcl plan`."""

from collections import defaultdict
from collections.abc import Iterable
from functools import cache

from rich import box
from rich.console import Console
from rich.table import Table

from ntkcl.pipeline import cost
from ntkcl.pipeline.throughput import state_bytes
from ntkcl.runs import Run, resolve, runs_of
from ntkcl.settings.files import load_study

COLUMNS = ("runs done", "tasks", "trained on", "evaluated", "hours", "states")
FILE_COLUMNS = 100  # characters of a line in a file or a pipe


def show(study: str, console: Console | None = None) -> None:
    """Print the remaining cost of a study: for each dataset and backbone, for each method, downloads, disk."""
    console = console or Console()
    if not console.is_terminal:
        console.width = FILE_COLUMNS
    runs = runs_of(load_study(study))
    device, speeds = cost.measured(runs)
    console.print(f"Study {study}: remaining work (images in millions; hours of one job at a time)")
    costs = [
        (run, cost.work_of(run, speeds), _state_bytes(run.dataset_name, run.backbone_name, run.variant)) for run in runs
    ]
    overall, disk = _print_costs(costs, {"dataset": "dataset_name", "backbone": "backbone_name"}, console)
    if len({run.variant for run in runs}) > 1:
        _print_costs(costs, {"method": "variant"}, console)
    _print_bytes(study, disk, console)
    if manual := cost.manual_downloads(study):
        console.print(f"to download manually: {' and '.join(manual)} (how: ntkcl data list)")
    if not overall.evaluated:
        return
    if speeds:
        console.print(f"hours: on {device}, measured with random images (runs/throughput.json)")
    else:
        console.print(f"hours are not known; measure them on the machine that computes: ntkcl plan {study} --measure")


def _print_costs(
    costs: list[tuple[Run, cost.Work, int]], names: dict[str, str], console: Console
) -> tuple[cost.Work, int]:
    """Print a row for the runs that agree in these names, and one for all.

    Args:
        costs: each run, its work, and the bytes of its states.
        names: attributes of a run, by the heads of their columns.

    Returns:
        Work and bytes of all runs.
    """
    table, groups = Table(*names, box=box.SIMPLE_HEAD), defaultdict(list)
    for column in COLUMNS:
        table.add_column(column, justify="right")
    for run, work, size in costs:
        groups[tuple(getattr(run, name) for name in names.values())].append((work, size))
    for key, members in groups.items():
        table.add_row(*key, *_cells(*_sum(members)))
    overall = _sum((work, size) for _, work, size in costs)
    table.add_section()
    table.add_row("all", *[""] * (len(names) - 1), *_cells(*overall))
    console.print(table)
    return overall


def _sum(parts: Iterable[tuple[cost.Work, int]]) -> tuple[cost.Work, int]:
    works, sizes = zip(*parts, strict=True)
    return cost.total(works), sum(sizes)


def _cells(work: cost.Work, states: int) -> list[str]:
    hours = "-" if work.hours is None or not work.evaluated else f"{work.hours:.1f}"
    known = work.evaluated or not work.jobs  # the size of your own dataset is known once it is prepared
    images = [f"{count / 1e6:.2f}" if known else "?" for count in (work.trained, work.evaluated)]
    return [f"{work.done} of {work.runs}", f"{work.jobs:,}", *images, hours, cost.in_bytes(states)]


@cache
def _state_bytes(dataset: str, backbone: str, variant: str) -> int:
    return state_bytes(resolve(dataset, backbone, variant, 0))


def _print_bytes(study: str, states: int, console: Console) -> None:
    sizes = cost.downloads(study)
    size, unknown = sum(size for size, _ in sizes.values()), sum(unknown for _, unknown in sizes.values())
    parts = ", ".join(f"{owner} {cost.in_bytes(part)}" for owner, (part, _) in sizes.items() if part)
    if size:
        console.print(f"to download: {cost.in_bytes(size)} ({parts})")
    if unknown:
        console.print(f"and {unknown} files of unknown size")
    prepared = cost.prepared_bytes(study)
    also = f", {cost.in_bytes(size)} for these downloads, about {cost.in_bytes(prepared)} for data prepared from them"
    console.print(f"disk: {cost.in_bytes(states)} for the states of all runs" + (also if prepared else ""))
