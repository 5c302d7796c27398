"""The report of a study on the terminal."""

from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from ntkcl.files import read_json
from ntkcl.reporting.collect import REPORTS, run_folder
from ntkcl.reporting.layout import COLUMNS, Cell, Table, notes_of, tables_of
from ntkcl.reporting.tables import text_cell


def show(reports: Path = REPORTS, console: Console | None = None) -> None:
    """Print the tables of the study in `reports`, what is missing, and where everything lies.

    Raises:
        UserError: `metrics.json` is missing.
    """
    content = read_json(reports / "metrics.json")
    console = console or Console()
    for table in tables_of(content):
        console.print(_grid(table))
        console.print(Text(table.note, style="dim"), "")
    console.print(Text(notes_of(content), style="dim"), "")
    if content["missing"]:
        console.print(Text(f"Not run yet ({len(content['missing'])}): {', '.join(content['missing'])}\n"))
    for what, where in _places(content["runs"][0]["run"], reports).items():
        console.print(Text(f"{what:<20}{where}"), soft_wrap=True)


def _grid(table: Table) -> Grid:
    grid = Grid(
        title=Text(table.caption), box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False, padding=(0, 1, 0, 0)
    )
    grid.add_column("Method")
    for column in COLUMNS:
        grid.add_column(column.heading, justify="right")
    for label, cells in table.rows:
        grid.add_row(Text(label), *map(_text, cells))
    grid.add_section()
    for label, cells in table.bounds:
        grid.add_row(Text(label), *map(_text, cells))
    return grid


def _text(cell: Cell) -> Text:
    return Text(text_cell(cell).replace("**", "").replace(" ± ", "±"), style="bold" if cell.best else "")


def _places(example: dict, reports: Path) -> dict[str, str]:
    """Where the report and the runs behind it lie, with one run as an example."""
    folder = run_folder(*(example[part] for part in ("dataset", "backbone", "variant", "seed")))
    return {
        "LaTeX": str(reports / "tables.tex"),
        "Markdown": str(reports / "tables.md"),
        "Figure": str(reports / "figures" / "accuracy.pdf") + " (and .png)",
        "All numbers": str(reports / "metrics.json"),
        "Each run": f"{folder}/ (predictions, losses, states, metrics)",
        "Upload to W&B": "find runs -type d -name 'offline-run-*' -exec wandb sync {} +",
    }
