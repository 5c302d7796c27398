"""Published lists of the images of a split: text files, and the YAML files of CODA-Prompt."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, Field

from ntkcl.data.sources.common.archives import contents
from ntkcl.errors import UserError, nearest
from ntkcl.settings.models import Model

PLAIN_NAME = re.compile(r"(\w+):\r?")
PLAIN_ENTRY = re.compile(r"-\x20([\w./][\w./,()+&' -]*?)\r?")  # text that is the same in YAML, and no other type


def with_groups(*groups: str) -> AfterValidator:
    """Return a validator: the setting must be a regular expression with these named groups."""

    def check(pattern: str) -> str:
        try:
            missing = set(groups) - set(re.compile(pattern).groupindex)
        except re.error as error:
            raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error
        if missing:
            raise ValueError(f"{pattern!r} has no group (?P<{min(missing)}>...)")
        return pattern

    return AfterValidator(check)


class Lists(Model):
    """A split that is published as two lists of images.

    In a .yaml file the entries are the strings of `data`. In any other file they are all lines, except empty lines and
    lines that start with "#".
    """

    kind: Literal["lists"] = Field(description="kind of the split")
    train: str = Field(description='list of training images: a file of the dataset, or "archive:path inside it"')
    test: str = Field(description="list of test images, in the same way")
    entry: Annotated[str, with_groups("image")] = Field(
        description="regular expression for an entry, with the group `image`: the name of the image"
    )
    suffix: str = Field("", description="text to append to that name, such as .jpg")
    class_index: Literal["sorted", "lists"] = Field(
        "sorted", description="order of the classes: by name, or by the targets in the lists"
    )

    @property
    def files(self) -> set[str]:
        """The dataset's files that contain the lists."""
        return {name.partition(":")[0] for name in (self.train, self.test)}


def listed(options: Lists, files: Mapping[str, Path]) -> tuple[dict[str, str], dict[str, int]]:
    """Return the split of every listed image and, if the lists have targets, its target.

    Raises:
        UserError: a list is missing or cannot be read, or an image is in both or has two targets.
    """
    splits: dict[str, str] = {}
    targets: dict[str, int] = {}
    for split, where in (("train", options.train), ("test", options.test)):
        names, numbers = _read(where, options, files)
        for name, number in zip(names, numbers, strict=False):
            if targets.setdefault(name, number) != number:
                raise UserError(f"{where}: '{name}' has the targets {targets[name]} and {number}; {_REMEDY}")
        if both := splits.keys() & set(names):
            raise UserError(f"{len(both)} images are in both {options.train} and {where}, as '{min(both)}'; {_REMEDY}")
        splits |= dict.fromkeys(names, split)
    return splits, targets


_REMEDY = "check the lists, and split in the dataset's YAML"


def _read(where: str, options: Lists, files: Mapping[str, Path]) -> tuple[list[str], list[int]]:
    """Return the images in a list, and their targets if it has any."""
    try:
        text = _content(where, files).decode()
        if not where.endswith((".yaml", ".yml")):
            lines = (line.strip() for line in text.splitlines())
            return _images((line for line in lines if line and line[0] != "#"), where, options), []
        read: dict[str, Any] = _plain_lists(text) or yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        entries, targets = list(read["data"]), [int(str(target)) for target in read["targets"]]
    except (ValueError, KeyError, TypeError, yaml.YAMLError, RecursionError) as error:
        raise UserError(f"{where} is not a list of images ({' '.join(str(error).split())}); {_REMEDY}") from error
    if len(entries) != len(targets):
        raise UserError(f"{where} has {len(entries)} images and {len(targets)} targets; {_REMEDY}")
    return _images(entries, where, options), targets


def _plain_lists(text: str) -> dict[str, list[str]] | None:
    """Read YAML that is nothing but plain lists by name, as these files are; None if it is more than that.

    A parser of YAML takes half a minute and a gigabyte for those of DomainNet.
    """
    lists: dict[str, list[str]] = {}
    current: list[str] | None = None
    for line in re.finditer(r"[^\n]+", text):
        if (entry := PLAIN_ENTRY.fullmatch(line[0])) and current is not None:
            current.append(entry[1].rstrip())
        elif (name := PLAIN_NAME.fullmatch(line[0])) and name[1] not in lists:
            current = lists[name[1]] = []
        else:
            return None
    return lists


def _content(where: str, files: Mapping[str, Path]) -> bytes:
    file, _, member = where.partition(":")
    if file not in files:
        raise UserError(f"the list '{where}' is not among the dataset's files; {nearest(file, files)}")
    if not member:
        return files[file].read_bytes()
    for _, content in contents(files[file], {member}):
        return content
    raise UserError(f"{files[file]} has no member '{member}'; {_REMEDY}")


def _images(entries: Iterable[str], where: str, options: Lists) -> list[str]:
    pattern, names = re.compile(options.entry), []
    for entry in entries:
        if not (match := pattern.fullmatch(str(entry))):
            raise UserError(f"{where}: '{entry}' does not match the pattern of entries; {_REMEDY}")
        names.append(match["image"] + options.suffix)
    if not names:
        raise UserError(f"{where} names no image; {_REMEDY}")
    return names
