"""Your own images: a folder with a folder for each class, or with train/ and test/ above them."""

import os
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import Field

from ntkcl.data.prepared.decoding import is_image, left_out, printable, read_file
from ntkcl.data.prepared.manifest import Manifest
from ntkcl.data.prepared.packed import FileSet
from ntkcl.data.sources.common.lists import with_groups
from ntkcl.data.sources.common.options import Source
from ntkcl.data.sources.common.splits import Folders, Stratified, known_split, stratified, with_both_splits
from ntkcl.errors import UserError
from ntkcl.settings.models import Model

SPLIT_NAMES = {  # of folders, in lower case; a folder for validation is the test split if there is none for testing
    "train": ("train", "training", "train_set", "trainset", "training_set"),
    "val": ("val", "valid", "validation", "dev", "val_set", "validation_set"),
    "test": ("test", "testing", "eval", "evaluation", "test_set", "testset"),
}
OF_NO_CLASS = "__macosx"  # of zip archives made by macOS
PATTERN = r"(?P<image>(?P<class>[^/]+)/.+)"
SPLIT_PATTERN = r"(?P<image>(?P<split>[^/]+)/(?P<class>[^/]+)/.+)"


class Options(Model):
    """Options for a folder of images.

    `pattern` must match the path of an image inside the folder. Its groups are `image` (its name), `class` and, for
    the split "folders", `split`. If the folder contains train/ and test/ (or training/ and valid/, and other usual
    names in any case), these are the split, and `pattern` and `split` are not used. Images for validation are left out
    if there are others for testing. After changing the images, delete the prepared files in data/.
    """

    path: str = Field(description="the folder")
    pattern: Annotated[str, with_groups("image", "class")] = Field(
        PATTERN, description="regular expression for the paths of images, with named groups"
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
    split_of = _split_folders(folder, options)
    found = sorted(_images(folder, set(split_of) if split_of else None))
    pattern = SPLIT_PATTERN if split_of else options.pattern
    matches = [match for path in found if (match := re.fullmatch(pattern, path, re.DOTALL))]
    if not matches:
        raise UserError(f"no image in {folder} matches the pattern {pattern}; add images or correct the pattern")
    if len(matches) < len(found):
        print(f"warning: {len(found) - len(matches)} images in {folder} do not match {pattern}", file=sys.stderr)
    if split_of:
        matches = [match for match in matches if split_of[match["split"]]]
    ids, classes = [match["image"] for match in matches], [match["class"] for match in matches]
    if twice := len(ids) - len(set(ids)):
        raise UserError(f"{twice} images in {folder} have the name of another; make the pattern tell them apart")
    paths = [folder / match.string for match in matches]
    if same := same_files(paths):
        one, other = same
        raise UserError(f"{paths[one]} and {paths[other]} are the same file, linked; remove one of them")
    if split_of:
        splits = [split_of[match["split"]] for match in matches]
    elif isinstance(options.split, Folders):
        splits = [_split_of(match, folder) for match in matches]
    else:
        splits = stratified(ids, classes, options.split)
    labels = with_both_splits(Manifest(ids, classes, splits))
    return FileSet(labels, contents_of(paths))


def same_files(paths: Iterable[Path]) -> tuple[int, int] | None:
    """Return the positions of the first two paths that lead to the same file, also by links or other spellings."""
    known: dict[Path, int] = {}
    for position, path in enumerate(paths):
        if (first := known.setdefault(Path(os.path.realpath(path)), position)) != position:
            return first, position
    return None


def contents_of(paths: list[Path]) -> Iterator[tuple[int, bytes]]:
    """Yield position and content of each file.

    Raises:
        UserError: a file cannot be read.
    """
    return ((row, read_file(path)) for row, path in enumerate(paths))


def _split_folders(folder: Path, options: Options) -> dict[str, str]:
    """Return "train", "test" or "" (left out) for each folder in `folder` if they are a split, else nothing.

    Raises:
        UserError: beside the split there are other folders with images.
    """
    names = [entry.name for entry in sorted(folder.iterdir()) if entry.is_dir() and entry.name[0] != "."]
    kinds = {name: kind for name in names for kind, known in SPLIT_NAMES.items() if name.lower() in known}
    if "train" not in kinds.values() or len(set(kinds.values())) == 1:
        return {}
    others = [name for name in names if name not in kinds and name.lower() != OF_NO_CLASS]
    if extra := [name for name in others if any(_images(folder, {name}))]:
        if options.pattern != PATTERN:
            return {}
        raise UserError(
            f"{folder} has the folders of a split ({', '.join(kinds)}), and images in {printable(extra[0])}/ beside "
            "them; move those elsewhere, or say what the folders are with pattern in the dataset's YAML"
        )
    has_test = "test" in kinds.values()
    splits = {name: ("" if has_test else "test") if kind == "val" else kind for name, kind in kinds.items()}
    if unused := [name for name, split in splits.items() if not split]:
        print(f"warning: images in {folder}/{', '.join(unused)} are for validation, and left out", file=sys.stderr)
    return splits


def _images(folder: Path, only: set[str] | None = None) -> Iterator[str]:
    """Yield the paths of all images inside the folder, except hidden ones.

    Args:
        folder: the folder.
        only: names of the folders in it to look at; all, and what lies beside them, if not given.
    """
    others: list[PurePosixPath] = []
    for where, folders, files in os.walk(folder):
        here = Path(where)
        folders[:] = [name for name in folders if name[0] != "." and name.lower() != OF_NO_CLASS]
        if here == folder and only is not None:
            folders[:], files = [name for name in folders if name in only], []
        for name in (*folders, *files):
            if any(ord(c) < 32 or 0xD800 <= ord(c) < 0xE000 for c in name):
                reason = (
                    "has a line break or the like in its name" if name.isascii() else "has a name that is not UTF-8"
                )
                raise UserError(f"{printable(here / name)} {reason}; rename it")
        for name in folders:
            if (here / name).is_symlink():
                raise UserError(f"{here / name} is a link to a folder; replace it by the folder itself")
        for path in (here / name for name in files):
            if not is_image(path):
                others += [PurePosixPath(path.name)] if path.name[0] != "." else []
                continue
            if path.is_symlink():
                target = os.path.realpath(path)
                if not path.exists():
                    raise UserError(f"{path} is a link that leads nowhere; remove it")
                if not Path(target).is_relative_to(os.path.realpath(folder)):
                    raise UserError(f"{path} is a link that leaves {folder}; replace it by the image itself")
            yield path.relative_to(folder).as_posix()
    if others:
        print(f"warning: {len(others)} files in {folder} are left out: {left_out(others)}", file=sys.stderr)


def _split_of(match: re.Match, folder: Path) -> str:
    name = match.groupdict().get("split") or ""
    return "test" if name == "val" else known_split(name, f"{folder / match.string}")


SOURCE = Source(Options, make)
