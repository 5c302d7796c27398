"""The published numbers of a paper, for comparison with the reproduced ones."""

from collections import Counter
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from ntkcl.errors import UserError
from ntkcl.reporting.csv_lines import Printed, csv_lines
from ntkcl.reporting.study_metrics import PaperTable, PublishedMethod, PublishedNumber
from ntkcl.settings.files import PARAMS, load_dataset
from ntkcl.settings.models import Model, Name
from ntkcl.settings.studies import PublishedTable, Study


class Line(Model):
    """A line of the CSV, in percent. Numbers stay text: they are shown as the paper prints them."""

    table: Name = Field(description="number of the paper's table")
    backbone: Name
    dataset: Name
    method: Annotated[str, Field(min_length=1, description="its name in the paper, the `label` of our method")]
    venue: str = Field(description="where the method was published; empty for the paper's own")
    metric: Literal["average_accuracy", "final_accuracy"]
    mean: Printed
    std: Printed | Literal[""]


def paper_tables(study: Study, name: str) -> list[PaperTable]:
    """Return the published tables that study `name` reproduces; none if it names none.

    Raises:
        UserError: the CSV is missing, has a wrong line, or does not fit the study's tables.
    """
    if not study.tables:
        return []
    if not study.published:
        raise UserError(f"{PARAMS}/studies/{name}.yaml: tables need 'published', the CSV under {PARAMS}/ with numbers")
    path = PARAMS / study.published
    lines = _read(path)
    return [
        _table(number, table, [line for line in lines if line.table == number], path)
        for number, table in study.tables.items()
    ]


def _read(path: Path) -> list[Line]:
    lines = csv_lines(path, Line)
    cells = Counter((line.table, line.dataset, line.method, line.metric) for line in lines)
    if twice := [" ".join(cell) for cell, count in cells.items() if count > 1]:
        raise UserError(f"{path}: table {twice[0]} is listed twice; delete one line")
    return lines


def _table(number: str, table: PublishedTable, lines: list[Line], path: Path) -> PaperTable:
    expected = {f"{dataset} with {table.backbone}" for dataset in table.datasets}
    given = {f"{line.dataset} with {line.backbone}" for line in lines}
    if unmatched := sorted(expected ^ given):
        raise UserError(f"{path} and tables.{number} of the study differ in {unmatched[0]}; name the same in both")
    names = dict.fromkeys(line.method for line in lines)
    return PaperTable(
        number=number,
        title=table.title,
        backbone=table.backbone,
        datasets=table.datasets,
        dataset_labels=[load_dataset(name).label for name in table.datasets],
        dataset_notes=[load_dataset(name).note for name in table.datasets],
        methods=[_method([line for line in lines if line.method == name]) for name in names],
    )


def _method(lines: list[Line]) -> PublishedMethod:
    """The method that all `lines` are about."""
    numbers: dict[str, dict[str, PublishedNumber]] = {}
    for line in lines:
        numbers.setdefault(line.dataset, {})[line.metric] = PublishedNumber(mean=line.mean, std=line.std)
    return PublishedMethod(label=lines[0].method, venue=lines[0].venue, numbers=numbers)
