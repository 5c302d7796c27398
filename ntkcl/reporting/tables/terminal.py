"""The report of a study on the terminal."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table as Grid
from rich.text import Text

from ntkcl.reporting.collect import REPORTS, run_folder
from ntkcl.reporting.tables.markdown import text_cell
from ntkcl.reporting.tables.model import WIDTH, Cell, Column, Table
from ntkcl.reporting.tables.notes import notes_of
from ntkcl.reporting.tables.study import tables_of
from ntkcl.storage.files import read_json

LIST_UP_TO = 12  # missing runs are named; more are counted


def show(reports: Path = REPORTS, console: Console | None = None) -> None:
    """Print the tables of the study in `reports`, what is missing, and where everything lies.

    Raises:
        UserError: `metrics.json` is missing.
    """
    content = read_json(reports / "metrics.json")
    console = console or Console()
    for table in tables_of(content):
        console.print(Text(table.caption, style="italic"), "", sep="\n")
        for grid in _grids(table, console):
            console.print(grid, "")
        console.print(*(Text(note, style="dim") for note in table.notes.values()), "", sep="\n")
    console.print(Text(notes_of(content), style="dim"), "", sep="\n")
    if content["missing"]:
        console.print(Text(_missing(content) + "\n"))
    for what, where in _places(content["runs"], reports).items():
        console.print(Text(f"{what:<20}{where}"), soft_wrap=True)


def _grids(table: Table, console: Console) -> list[Grid]:
    """The table, in as few parts as fit the console; at the least one dataset stands in each."""
    unlimited = console.options.update(max_width=10_000)
    for width in range(WIDTH, 0, -2):
        grids = [_grid(part) for part in table.split_columns(width)]
        if all(Measurement.get(console, unlimited, grid).maximum <= console.width for grid in grids):
            break
    return grids


def _grid(table: Table) -> Grid:
    grid = Grid(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    grid.add_column(table.head)
    for column in table.columns:
        grid.add_column(_heading(column), justify="right")
    for rows in table.sections:
        for row in rows:
            style = "dim italic" if row.published else ""
            label = f"  {row.label}" if row.published else row.label
            grid.add_row(Text(label), *map(_text, row.cells), style=style)
        grid.add_section()
    return grid


def _heading(column: Column) -> Text:
    return Text("\n".join(filter(None, (column.dataset, column.heading))))


def _text(cell: Cell) -> Text:
    text = replace(cell, best=False)
    return Text(text_cell(text).replace(" ± ", "±").replace(" (n = ", " (n="), style="bold" if cell.best else "")


def _missing(content: dict[str, Any]) -> str:
    """What has not run with the present settings: each by name, or, where that would fill the screen, in numbers."""
    names = content["missing"]
    if not content["runs"]:
        return f"Not run yet: all {len(names)} runs; `ntkcl plan {content['study']}` says what they cost"
    start = f"Not run yet ({len(names)}):"
    if len(names) <= LIST_UP_TO:
        return f"{start} {', '.join(names)}"
    parts = [name.split("/") for name in names]
    datasets = Counter(dataset for dataset, *_ in parts)
    variants = Counter("/".join(variant) for _, _, *variant, _ in parts)
    by_dataset, by_variant = (
        ", ".join(f"{name} {count}" for name, count in counts.items()) for counts in (datasets, variants)
    )
    return f"{start} by dataset: {by_dataset}; by method: {by_variant}"


def _places(runs: list[dict[str, Any]], reports: Path) -> dict[str, str]:
    """Where the report and the runs behind it lie, with one run as an example."""
    places = {
        "LaTeX": str(reports / "tables.tex"),
        "Markdown": str(reports / "tables.md"),
        "Figure": str(reports / "figures" / "accuracy.pdf") + " (and .png)",
        "All numbers": str(reports / "metrics.json"),
    }
    if runs:
        folder = run_folder(*(runs[0]["run"][part] for part in ("dataset", "backbone", "variant", "seed")))
        places["Each run"] = f"{folder}/ (predictions, losses, states, metrics)"
        places["Upload to W&B"] = "find runs -type d -name 'offline-run-*' -exec wandb sync {} +"
    return places
