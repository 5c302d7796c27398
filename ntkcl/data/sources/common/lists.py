"""Published lists of the images of a split: text files, and the YAML files of CODA-Prompt."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator

from ntkcl.data.sources.common.archives import contents
from ntkcl.errors import UserError, nearest
from ntkcl.settings.models import Model


def with_groups(*groups: str) -> AfterValidator:
    """A check that a setting is a regular expression with these named groups."""

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
    """The split is published as two lists of images.

    `train` and `test` are names of the dataset's files, or "archive:path inside it". In a .yaml file the entries are
    the strings of `data`; in any other, all lines but empty ones and those that start with "#".
    """

    kind: Literal["lists"]
    train: str
    test: str
    entry: Annotated[str, with_groups("image")]
    suffix: str = ""
    class_index: Literal["sorted", "lists"] = "sorted"

    @property
    def files(self) -> set[str]:
        """The dataset's files in which the lists lie."""
        return {name.partition(":")[0] for name in (self.train, self.test)}


def listed(options: Lists, files: Mapping[str, Path]) -> tuple[dict[str, str], dict[str, int]]:
    """The split of every listed image and, where the lists have them, its target.

    Raises:
        UserError: a list is missing or cannot be read, or an image is in both.
    """
    splits: dict[str, str] = {}
    targets: dict[str, int] = {}
    for split, where in (("train", options.train), ("test", options.test)):
        names, numbers = _read(where, options, files)
        targets |= zip(names, numbers, strict=False)
        if both := splits.keys() & set(names):
            raise UserError(f"{len(both)} images are in both {options.train} and {where}, as '{min(both)}'; {_MEND}")
        splits |= dict.fromkeys(names, split)
    return splits, targets


_MEND = "the lists are not what they should be, or split in the dataset's YAML is wrong"


def _read(where: str, options: Lists, files: Mapping[str, Path]) -> tuple[list[str], list[int]]:
    """The images that a list names, and their targets if it has any."""
    try:
        text = _content(where, files).decode()
        if not where.endswith((".yaml", ".yml")):
            lines = (line.strip() for line in text.splitlines())
            return _images([line for line in lines if line and line[0] != "#"], where, options), []
        read: dict[str, Any] = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        entries, targets = read["data"], [int(target) for target in read["targets"]]
    except (ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise UserError(f"{where} is not a list of images ({' '.join(str(error).split())}); {_MEND}") from error
    if len(entries) != len(targets):
        raise UserError(f"{where} has {len(entries)} images and {len(targets)} targets; {_MEND}")
    return _images(entries, where, options), targets


def _content(where: str, files: Mapping[str, Path]) -> bytes:
    file, _, member = where.partition(":")
    if file not in files:
        raise UserError(f"the list '{where}' is not among the dataset's files; {nearest(file, files)}")
    if not member:
        return files[file].read_bytes()
    for _, content in contents(files[file], {member}):
        return content
    raise UserError(f"{files[file]} has no member '{member}'; {_MEND}")


def _images(entries: list[str], where: str, options: Lists) -> list[str]:
    pattern = re.compile(options.entry)
    matches = [pattern.fullmatch(entry) for entry in entries]
    if None in matches:
        raise UserError(f"{where}: '{entries[matches.index(None)]}' does not match the pattern of entries; {_MEND}")
    if not matches:
        raise UserError(f"{where} names no image; {_MEND}")
    return [match["image"] + options.suffix for match in matches]
