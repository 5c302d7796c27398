"""The table of `ntkcl plan`."""

from collections.abc import Callable
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
    works = {run.name: cost.work_of(run, speeds) for run in runs}
    sizes = {run.name: _state_bytes(run.dataset_name, run.backbone_name, run.variant) for run in runs}

    def print_table(heads: tuple[str, ...], key: Callable[[Run], tuple[str, ...]]) -> tuple[cost.Work, int]:
        table, groups = Table(*heads, box=box.SIMPLE_HEAD), {}
        for column in COLUMNS:
            table.add_column(column, justify="right")
        for run in runs:
            groups.setdefault(key(run), []).append(run.name)
        sums = {k: (cost.total(works[n] for n in names), sum(sizes[n] for n in names)) for k, names in groups.items()}
        for names, (work, states) in sums.items():
            table.add_row(*names, *_cells(work, states))
        overall = cost.total(work for work, _ in sums.values()), sum(states for _, states in sums.values())
        table.add_section()
        table.add_row("all", *[""] * (len(heads) - 1), *_cells(*overall))
        console.print(table)
        return overall

    overall, disk = print_table(("dataset", "backbone"), lambda run: (run.dataset_name, run.backbone_name))
    if len({run.variant for run in runs}) > 1:
        print_table(("method",), lambda run: (run.variant,))
    _print_bytes(study, disk, console)
    if manual := cost.manual_downloads(study):
        console.print(f"to download manually: {' and '.join(manual)} (how: ntkcl data list)")
    if not overall.evaluated:
        return
    if speeds:
        console.print(f"hours: on {device}, measured with random images (runs/throughput.json)")
    else:
        console.print(f"hours are not known; measure them on the machine that computes: ntkcl plan {study} --measure")


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
