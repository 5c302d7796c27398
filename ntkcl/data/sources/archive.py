"""Images in archives (.zip, .tar, .tar.gz), as their publishers pack them."""

import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Annotated, NamedTuple

from pydantic import Field, model_validator

from ntkcl.data.prepared.decoding import is_image
from ntkcl.data.prepared.manifest import Manifest
from ntkcl.data.prepared.packed import FileSet
from ntkcl.data.sources.common.archives import contents, members
from ntkcl.data.sources.common.lists import Lists, listed, with_groups
from ntkcl.data.sources.common.options import Source
from ntkcl.data.sources.common.splits import Folders, Stratified, known_split, stratified, with_both_splits
from ntkcl.errors import UserError, nearest
from ntkcl.settings.models import Model

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")


class Options(Model):
    """Options for images in archives.

    `pattern` must match the whole path of a member, ignoring case. Its groups are `image` (the name of the image in
    lists, split and manifest), `class` and, for the split "folders", `split` (train or test). `exclude` is for damaged
    originals, since an archive must keep its checksum. If the dataset's `counts` are exact, they do not
    include these images.
    """

    pattern: Annotated[str, with_groups("image", "class")] = Field(
        description="regular expression for the paths of images, with named groups"
    )
    other_pattern: Annotated[str, with_groups("image", "class")] | None = Field(
        None, description="the same for another layout of the archive, in use if no image matches `pattern`"
    )
    archives: list[str] = Field(
        [], description="names of the archives among the dataset's files; by default all that are not lists"
    )
    split: Annotated[Folders | Stratified | Lists, Field(discriminator="kind")] = Field(
        description="division into training and test images"
    )
    exclude: dict[str, str] = Field({}, description="images to leave out, each with the reason")

    @model_validator(mode="after")
    def _has_split(self) -> "Options":
        if self.split.kind == "folders" and "split" not in re.compile(self.pattern).groupindex:
            raise ValueError("split by folders needs a group (?P<split>train|test) in pattern")
        return self


class Found(NamedTuple):
    """Location of an image in an archive, and what its path says about it."""

    archive: str
    member: str
    class_name: str
    split: str = ""


def make(options: Options, files: Mapping[str, Path]) -> FileSet:
    """Find the images that match the pattern and are in the split; they are read from the archives later.

    Raises:
        UserError: an archive is missing, damaged or refused, has no image or two of one name, or lacks listed or
            excluded ones.
    """
    found = _found(options, files)
    splits, class_names = _split(found, options, files)
    ids = sorted(splits)
    labels = Manifest(ids, [found[name].class_name for name in ids], [splits[name] for name in ids], class_names)
    return FileSet(with_both_splits(labels), _contents(ids, found, files))


def _found(options: Options, files: Mapping[str, Path]) -> dict[str, Found]:
    pattern = re.compile(options.pattern, re.IGNORECASE)
    found: dict[str, Found] = {}
    archives = _archives(options, files)
    for archive in archives:
        for member, _ in members(files[archive]):
            match = pattern.fullmatch(member)
            if not match or not is_image(PurePosixPath(member)):
                continue
            named = match.groupdict()
            if twice := found.get(named["image"]):
                raise UserError(
                    f"{files[archive]}: '{member}' and '{twice.member}' of {twice.archive} are both called "
                    f"'{named['image']}'; make the pattern tell them apart"
                )
            found[named["image"]] = Found(archive, member, named["class"], (named.get("split") or "").lower())
    if not found and options.other_pattern:
        return _found(options.model_copy(update={"pattern": options.other_pattern, "other_pattern": None}), files)
    if not found:
        raise UserError(f"no image in {', '.join(archives)} matches the pattern {options.pattern}; correct the pattern")
    if unknown := options.exclude.keys() - found.keys():
        raise UserError(f"exclude names '{min(unknown)}', but no image is called that; '{min(found)}' is one")
    return {name: image for name, image in found.items() if name not in options.exclude}


def _archives(options: Options, files: Mapping[str, Path]) -> list[str]:
    if unknown := [name for name in options.archives if name not in files]:
        raise UserError(f"the archive '{unknown[0]}' is not among the dataset's files; {nearest(unknown[0], files)}")
    lists = options.split.files if isinstance(options.split, Lists) else set()
    archives = options.archives or [n for n in files if n.lower().endswith(ARCHIVE_SUFFIXES) and n not in lists]
    if not archives:
        raise UserError(f"no file of {', '.join(files)} is an archive of images; list the archives in `archives`")
    return archives


def _split(found: dict[str, Found], options: Options, files: Mapping[str, Path]) -> tuple[dict[str, str], list[str]]:
    """Split of each image in use; and the classes in the lists' order, or an empty list if they are sorted."""
    if isinstance(options.split, Folders):
        return {name: known_split(image.split, image.member) for name, image in found.items()}, []
    if isinstance(options.split, Stratified):
        classes = [image.class_name for image in found.values()]
        return dict(zip(found, stratified(list(found), classes, options.split), strict=True)), []
    splits, targets = (
        {name: value for name, value in of_all.items() if name not in options.exclude}
        for of_all in listed(options.split, files)
    )
    if missing := splits.keys() - found.keys():
        raise UserError(
            f"{len(missing)} images of {options.split.train} and {options.split.test} are in no archive, "
            f"as '{min(missing)}'; the archives or the lists are not what they should be"
        )
    return splits, _in_order_of(targets, found) if options.split.class_index == "lists" else []


def _in_order_of(targets: dict[str, int], found: dict[str, Found]) -> list[str]:
    """Return the classes in the order of the lists' targets."""
    pairs = sorted({(target, found[name].class_name) for name, target in targets.items()})
    for (number, one), (next_number, other) in pairwise(pairs):
        if number == next_number:
            raise UserError(f"the lists call both '{one}' and '{other}' class {number}; set class_index: sorted")
    if not pairs or len({name for _, name in pairs}) != len(pairs):
        raise UserError("the lists give no target, or several to one class; set class_index: sorted")
    return [name for _, name in pairs]


def _contents(ids: list[str], found: dict[str, Found], files: Mapping[str, Path]) -> Iterator[tuple[int, bytes]]:
    wanted: dict[str, dict[str, int]] = {}
    for row, name in enumerate(ids):
        wanted.setdefault(found[name].archive, {})[found[name].member] = row
    for archive, rows in wanted.items():
        for member, content in contents(files[archive], rows):
            yield rows[member], content


SOURCE = Source(Options, make)
