"""Tables of a study on the terminal."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table as Grid
from rich.text import Text

from ntkcl.reporting.expected_numbers import verdicts
from ntkcl.reporting.study_metrics import REPORTS, StudyMetrics, read_study_metrics
from ntkcl.reporting.tables.markdown import text_cell
from ntkcl.reporting.tables.model import MAX_COLUMNS, Cell, Column, Table
from ntkcl.reporting.tables.notes import notes_of
from ntkcl.reporting.tables.study import tables_of
from ntkcl.runs import run_folder

MAX_NAMED_RUNS = 12  # missing runs that are named; more are counted


def show(reports: Path = REPORTS, console: Console | None = None) -> None:
    """Print the tables of the study in `reports`, the missing runs, and the paths of all results.

    Raises:
        UserError: `metrics.json` is missing, or does not fit.
    """
    study = read_study_metrics(reports)
    console = console or Console()
    for table in tables_of(study):
        console.print(Text(table.caption, style="italic"), "", sep="\n")
        for grid in _grids(table, console):
            console.print(grid, "")
        console.print(*(Text(note, style="dim") for note in table.notes.values()), "", sep="\n")
    console.print(Text(notes_of(study), style="dim"), "", sep="\n")
    if lines := verdicts(study):
        console.print(*map(Text, lines), "", sep="\n")
    if study.missing:
        console.print(Text(_missing(study) + "\n"))
    for result, path in _paths(study, reports).items():
        console.print(Text(f"{result:<20}{path}"), soft_wrap=True)


def _grids(table: Table, console: Console) -> list[Grid]:
    """The table in as few parts as fit the console; each has at least one dataset."""
    unlimited = console.options.update(max_width=10_000)
    for width in range(MAX_COLUMNS, 0, -2):
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


def _missing(study: StudyMetrics) -> str:
    """The runs that have not finished with the current settings: by name, or counted if they are many."""
    if not study.runs:
        return f"Not run yet: all {len(study.missing)} runs; `ntkcl plan {study.study}` prints what they cost"
    start = f"Not run yet ({len(study.missing)}):"
    if len(study.missing) <= MAX_NAMED_RUNS:
        return f"{start} {', '.join(study.missing)}"
    parts = [name.split("/") for name in study.missing]
    datasets = Counter(dataset for dataset, *_ in parts)
    variants = Counter("/".join(variant) for _, _, *variant, _ in parts)
    by_dataset, by_variant = (
        ", ".join(f"{name} {count}" for name, count in counts.items()) for counts in (datasets, variants)
    )
    return f"{start} by dataset: {by_dataset}; by method: {by_variant}"


def _paths(study: StudyMetrics, reports: Path) -> dict[str, str]:
    """Paths of the report and of the runs behind it, with one run as an example."""
    paths = {
        "LaTeX": str(reports / "tables.tex"),
        "Markdown": str(reports / "tables.md"),
        "Figure": str(reports / "figures" / "accuracy.pdf") + " (and .png)",
        "All numbers": str(reports / "metrics.json"),
    }
    if study.runs:
        run = study.runs[0].run
        folder = run_folder(run.dataset, run.backbone, run.variant, run.seed)
        paths["Each run"] = f"{folder}/ (predictions, losses, states, metrics)"
        paths["Upload to W&B"] = "find runs -type d -name 'offline-run-*' -exec wandb sync {} +"
    return paths
