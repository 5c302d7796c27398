"""Your own images: a folder with a folder for each class, or with train/ and test/ above them."""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

from pydantic import Field

from ntkcl.data.prepared.decoding import is_image
from ntkcl.data.prepared.manifest import Manifest
from ntkcl.data.prepared.packed import FileSet
from ntkcl.data.sources.common.lists import with_groups
from ntkcl.data.sources.common.options import Source
from ntkcl.data.sources.common.splits import Folders, Stratified, known_split, stratified, with_both_splits
from ntkcl.errors import UserError
from ntkcl.settings.models import Model

SPLIT_PATTERN = r"(?P<image>(?P<split>train|test|val)/(?P<class>[^/]+)/.+)"


class Options(Model):
    """Options for a folder of images.

    `pattern` must match the path of an image inside the folder. Its groups are `image` (its name), `class` and, for
    the split "folders", `split`. If the folder contains only train/ and test/ (or train/ and val/), these are the
    split, and `pattern` and `split` are not used. After changing the images, delete the prepared files in data/.
    """

    path: str = Field(description="the folder")
    pattern: Annotated[str, with_groups("image", "class")] = Field(
        r"(?P<image>(?P<class>[^/]+)/.+)", description="regular expression for the paths of images, with named groups"
    )
    split: Annotated[Folders | Stratified, Field(discriminator="kind")] = Field(
        Stratified(), description="division into training and test images"
    )


def make(options: Options) -> FileSet:
    """Find the images that match the pattern, in the order of their names.

    Raises:
        UserError: the folder is missing, has no image, a link that leaves it or one image under two names, or a class
            cannot be split.
    """
    folder = Path(options.path).expanduser()
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; correct path in the dataset's YAML")
    split_folders = {entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != "."}
    by_folder = split_folders in ({"train", "test"}, {"train", "val"})
    pattern = SPLIT_PATTERN if by_folder else options.pattern
    matches = [match for path in sorted(_images(folder)) if (match := re.fullmatch(pattern, path))]
    if not matches:
        raise UserError(f"no image in {folder} matches the pattern {pattern}; add images or correct the pattern")
    ids, classes = [match["image"] for match in matches], [match["class"] for match in matches]
    if twice := len(ids) - len(set(ids)):
        raise UserError(f"{twice} images in {folder} have the name of another; make the pattern tell them apart")
    paths = [folder / match.string for match in matches]
    if same := same_files(paths):
        one, other = same
        raise UserError(f"{paths[one]} and {paths[other]} are the same file, linked; remove one of them")
    if by_folder or isinstance(options.split, Folders):
        splits = [_split_of(match, folder) for match in matches]
    else:
        splits = stratified(ids, classes, options.split)
    labels = with_both_splits(Manifest(ids, classes, splits))
    return FileSet(labels, contents_of(paths))


def same_files(paths: Iterable[Path]) -> tuple[int, int] | None:
    """Return the positions of the first two paths that lead to the same file, also by links or other spellings."""
    known: dict[Path, int] = {}
    for position, path in enumerate(paths):
        if (first := known.setdefault(path.resolve(), position)) != position:
            return first, position
    return None


def contents_of(paths: list[Path]) -> Iterator[tuple[int, bytes]]:
    """Yield position and content of each file.

    Raises:
        UserError: a file cannot be read.
    """
    for row, path in enumerate(paths):
        try:
            yield row, path.read_bytes()
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror or error}; put the image back") from error


def _images(folder: Path) -> Iterator[str]:
    """Yield the paths of all images inside the folder, except hidden ones."""
    for where, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name[0] != "."]
        for name in folders:
            if (Path(where) / name).is_symlink():
                raise UserError(f"{Path(where) / name} is a link to a folder; replace it by the folder itself")
        for path in (Path(where) / name for name in files):
            if is_image(path):
                if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
                    raise UserError(f"{path} is a link that leaves {folder}; replace it by the image itself")
                yield path.relative_to(folder).as_posix()


def _split_of(match: re.Match, folder: Path) -> str:
    name = match.groupdict().get("split") or ""
    return "test" if name == "val" else known_split(name, f"{folder / match.string}")


SOURCE = Source(Options, make)
