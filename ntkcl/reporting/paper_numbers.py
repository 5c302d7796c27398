"""The numbers that a paper printed, to stand beside the reproduced ones."""

import csv
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from ntkcl.errors import UserError
from ntkcl.settings.files import PARAMS, load_dataset
from ntkcl.settings.models import Model, Name
from ntkcl.settings.studies import PublishedTable, Study
from ntkcl.settings.validation import validated

Printed = Annotated[str, Field(pattern=r"^\d+(\.\d+)?$")]


class Published(Model):
    """A line of the CSV, in percent. The numbers stay text: they are shown as the paper prints them."""

    table: Name = Field(description="number of the paper's table")
    backbone: Name
    dataset: Name
    method: Annotated[str, Field(min_length=1, description="its name in the paper, the `label` of our method")]
    venue: str = Field(description="where the method was published; nothing for the paper's own")
    metric: Literal["average_accuracy", "final_accuracy"]
    mean: Printed
    std: Printed | Literal[""]


def paper_tables(study: Study, name: str) -> list[dict[str, Any]]:
    """The tables of the paper that study `name` reproduces; none if it names none.

    Returns:
        For each: `number`, `title`, `backbone`, `datasets`, `dataset_labels`, `dataset_notes` and, in the paper's
        order, `methods` with `label`, `venue` and `numbers[dataset][metric]`, which has `mean` and `std` as text.

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


def _read(path: Path) -> list[Published]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = list(csv.DictReader(file))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; correct 'published' in the study") from error
    published = [validated(Published, line, f"{path}, line {number}") for number, line in enumerate(lines, start=2)]
    cells = Counter((line.table, line.dataset, line.method, line.metric) for line in published)
    if twice := [" ".join(cell) for cell, count in cells.items() if count > 1]:
        raise UserError(f"{path}: table {twice[0]} stands there twice; delete one line")
    return published


def _table(number: str, table: PublishedTable, lines: list[Published], path: Path) -> dict[str, Any]:
    wanted = {f"{dataset} with {table.backbone}" for dataset in table.datasets}
    given = {f"{line.dataset} with {line.backbone}" for line in lines}
    if strange := sorted(wanted ^ given):
        raise UserError(f"{path} and tables.{number} of the study differ in {strange[0]}; name the same in both")
    methods: dict[str, dict[str, Any]] = {}
    for line in lines:
        method = methods.setdefault(line.method, {"label": line.method, "venue": line.venue, "numbers": {}})
        method["numbers"].setdefault(line.dataset, {})[line.metric] = {"mean": line.mean, "std": line.std}
    return {
        "number": number,
        "title": table.title,
        "backbone": table.backbone,
        "datasets": table.datasets,
        "dataset_labels": [load_dataset(name).label for name in table.datasets],
        "dataset_notes": [load_dataset(name).note for name in table.datasets],
        "methods": list(methods.values()),
    }
