"""CSV files of numbers that others published."""

import csv
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import Field

from ntkcl.errors import UserError
from ntkcl.settings.models import Model
from ntkcl.settings.validation import validated

Printed = Annotated[str, Field(pattern=r"^\d+(\.\d+)?$")]
"""A number as its source prints it."""

Line = TypeVar("Line", bound=Model)


def csv_lines(path: Path, kind: type[Line]) -> list[Line]:
    """Read a CSV with a line of column names.

    Raises:
        UserError: it cannot be read, or a line does not fit `kind`.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        remedy = "restore it, or correct 'published' in the study"
        raise UserError(f"cannot read {path}: {error.strerror}; {remedy}") from error
    return [validated(kind, row, f"{path}, line {number}") for number, row in enumerate(rows, start=2)]
