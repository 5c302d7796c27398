"""Your own images: a CSV file with the columns path, label and, if the split is fixed, split."""

import csv
from pathlib import Path

from pydantic import Field

from ntkcl.data.prepared.decoding import printable
from ntkcl.data.prepared.manifest import Manifest
from ntkcl.data.prepared.packed import FileSet
from ntkcl.data.sources.common.options import Source
from ntkcl.data.sources.common.splits import Stratified, known_split, stratified, with_both_splits
from ntkcl.data.sources.folder import contents_of, same_files
from ntkcl.errors import UserError
from ntkcl.settings.models import Model

COLUMNS = (["label", "path"], ["label", "path", "split"])


class Options(Model):
    """Options for a CSV file of images."""

    csv: str = Field(description="the CSV file; the paths in it are relative to its folder")
    split: Stratified = Field(Stratified(), description="division into training and test images, without column split")


def make(options: Options) -> FileSet:
    """Find the images of the table, in its order.

    Raises:
        UserError: the table cannot be read or has other columns, an image is missing or listed twice (also under
            another spelling of its path), or a split is not "train" or "test".
    """
    table = Path(options.csv).expanduser()
    rows = _rows(table)
    lines, names = list(rows), [row["path"] for row in rows.values()]
    paths = [table.parent / name for name in names]
    for line, path in zip(lines, paths, strict=True):
        if not path.is_file():
            raise UserError(f"{table}, line {line}: there is no image {path}; paths are relative to the table's folder")
    if same := same_files(paths):
        first, line, name = lines[same[0]], lines[same[1]], names[same[1]]
        raise UserError(f"{table}, line {line}: '{name}' is the image of line {first} already; remove one of them")
    classes = [row["label"] for row in rows.values()]
    if all("split" in row for row in rows.values()):
        splits = [known_split(row["split"], f"{table}, line {line}") for line, row in rows.items()]
    else:
        splits = stratified(names, classes, options.split)
    labels = with_both_splits(Manifest(names, classes, splits))
    return FileSet(labels, contents_of(paths))


def _rows(table: Path) -> dict[int, dict[str, str]]:
    """Read the rows, by line number."""
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or []
            rows = {reader.line_num: row for row in reader}  # noqa: B035
    except FileNotFoundError as error:
        raise UserError(f"there is no table {table}; correct csv in the dataset's YAML") from error
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{table} cannot be read as a CSV file ({error}); save it again, in UTF-8") from error
    if sorted(columns) not in COLUMNS:
        found = printable(", ".join(columns)) or "none"
        raise UserError(f"{table}: the columns must be path, label and, if wanted, split, not {found}; correct line 1")
    for line, row in rows.items():
        if None in row or not all(row.values()):
            raise UserError(f"{table}, line {line}: a value is missing or too many; give {', '.join(columns)}")
    if not rows:
        raise UserError(f"{table} names no image; add a line for each")
    return rows


SOURCE = Source(Options, make)
