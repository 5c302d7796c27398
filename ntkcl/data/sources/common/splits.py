"""Splits of a dataset into training and test images."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from ntkcl.data.prepared.manifest import Manifest
from ntkcl.errors import UserError
from ntkcl.settings.models import Model


class Folders(Model):
    """A split by folders: `pattern` has the group `split`, which matches train or test."""

    kind: Literal["folders"] = Field(description="kind of the split")


class Stratified(Model):
    """A split of our own: the same fraction of every class, chosen by hashes of the seed and the names."""

    kind: Literal["stratified"] = Field("stratified", description="kind of the split")
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = Field(0.2, description="fraction of each class for testing")
    seed: Annotated[int, Field(ge=0)] = Field(0, description="seed of the choice")


def stratified(ids: Sequence[str], classes: Sequence[str], options: Stratified) -> list[str]:
    """Return the split, "train" or "test", of each image.

    Of n images of a class, `test_fraction` * n are test images, rounded to the nearest number (a half to the even one),
    but at least 1 and at most n - 1. They are the images whose sha256 of "seed/class/name" (in UTF-8) comes first. So
    the choice does not depend on the order of the images, on other classes, or on the version of a random generator.

    Raises:
        UserError: a class has a single image.
    """
    members = defaultdict(list)
    for name, class_name in zip(ids, classes, strict=True):
        members[class_name].append(name)
    test: set[str] = set()
    for class_name, names in members.items():
        if len(names) == 1:
            raise UserError(
                f"class '{class_name}' has the single image '{names[0]}', but needs one for training and one for "
                "testing; add images or remove the class"
            )
        count = min(max(round(options.test_fraction * len(names)), 1), len(names) - 1)
        keys = {name: hashlib.sha256(f"{options.seed}/{class_name}/{name}".encode()).digest() for name in names}
        test.update(sorted(names, key=keys.get)[:count])
    return ["test" if name in test else "train" for name in ids]


def known_split(name: str, where: str) -> str:
    """Check the split `name` and return it.

    Args:
        name: name of a split.
        where: where it was read, for the error.

    Raises:
        UserError: it is not "train" or "test".
    """
    if name not in ("train", "test"):
        raise UserError(f"{where}: the split is '{name}'; valid: train, test")
    return name


def with_both_splits(labels: Manifest) -> Manifest:
    """Check that every class has images for training and for testing, and return `labels`.

    Raises:
        UserError: a class lacks one of them.
    """
    present = set(zip(labels.classes, labels.splits, strict=True))
    for class_name in labels.class_names:
        for split in ("train", "test"):
            if (class_name, split) not in present:
                raise UserError(f"class '{class_name}' has no {split} image; add some, or remove the class")
    return labels
