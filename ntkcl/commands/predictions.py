"""Predictions for image files: which files, and how their rows are printed."""

import csv
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from ntkcl.classifier import Classifier
from ntkcl.data.prepared.decoding import is_image, left_out, printable
from ntkcl.errors import UserError


def images_in(paths: Iterable[Path]) -> Iterator[Path]:
    """Files as they are; of folders all images in them and below, in the order of their names.

    A line to standard error says what else a folder contains.

    Raises:
        UserError: a folder holds no image.
    """
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        files = sorted(Path(where) / name for where, _, names in os.walk(path) for name in names if name[0] != ".")
        inside = [file for file in files if is_image(file)]
        if others := left_out(file for file in files if not is_image(file)):
            print(f"warning: files in {path} are left out: {others}", file=sys.stderr)
        if not inside:
            raise UserError(f"there is no image in the folder {path}; give files, or a folder with .jpg, .png and such")
        yield from inside


def predictions(model: Classifier, paths: Sequence[Path], top: int) -> Iterator[dict[str, Any]]:
    """For each file `image` and `predictions`, a list of `label` and `score`, best first; or `image` and `error`."""
    for path, answer in zip(paths, model.predict_each(paths, top), strict=True):
        row: dict[str, Any] = {"image": printable(path)}
        if isinstance(answer, UserError):
            yield row | {"error": str(answer)}
        else:
            yield row | {"predictions": [{"label": label, "score": score} for label, score in answer]}


def print_rows(rows: Iterable[dict[str, Any]], top: int, as_json: bool, console: Console | None = None) -> int:
    """Print what `predictions` yields: JSON lines, a table on a terminal, or tab-separated columns.

    Returns:
        How many images could not be read.
    """
    console, errors = console or Console(), []
    table = Table(Column("image", overflow="fold", min_width=24), *["label", "score"] * top)
    writer = csv.writer(sys.stdout, delimiter="\t", lineterminator="\n")
    for row in rows:
        errors += [row["error"]] if "error" in row else []
        if as_json:
            print(json.dumps(row, ensure_ascii=False))
        elif console.is_terminal:
            table.add_row(row["image"], *_cells(row, "unreadable"))
        else:
            writer.writerow([row["image"], *_cells(row, f"error: {row.get('error')}")])
    if console.is_terminal and not as_json:
        console.print(table, *errors, sep="\n", markup=False)
    return len(errors)


def _cells(row: dict[str, Any], unreadable: str) -> list[str]:
    if "error" in row:
        return [unreadable]
    return [text for each in row["predictions"] for text in (each["label"], f"{each['score']:.4f}")]
