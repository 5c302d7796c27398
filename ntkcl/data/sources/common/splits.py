"""Which images are for training and which for testing."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from ntkcl.data.prepared.manifest import Manifest
from ntkcl.errors import UserError
from ntkcl.settings.models import Model


class Folders(Model):
    """The images lie in a folder of training and a folder of test images."""

    kind: Literal["folders"]


class Stratified(Model):
    """No split is published: a share of every class, chosen by hashes of the seed and the names."""

    kind: Literal["stratified"] = "stratified"
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    seed: Annotated[int, Field(ge=0)] = 0


def stratified(ids: Sequence[str], classes: Sequence[str], options: Stratified) -> list[str]:
    """The split, "train" or "test", of each image.

    Of n images of a class, `test_fraction` * n are test images, rounded to the nearest number (a half to the even one),
    but at least 1 and at most n - 1: those whose sha256 of "seed/class/name" (in UTF-8) comes first. So the choice
    depends neither on the order of the images nor on other classes, and on no version of a random generator.

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
                f"class '{class_name}' has the single image '{names[0]}', which cannot serve for training and testing; "
                "add images or remove the class"
            )
        count = min(max(round(options.test_fraction * len(names)), 1), len(names) - 1)
        keys = {name: hashlib.sha256(f"{options.seed}/{class_name}/{name}".encode()).digest() for name in names}
        test.update(sorted(names, key=keys.get)[:count])
    return ["test" if name in test else "train" for name in ids]


def known_split(name: str, where: str) -> str:
    """The split `name`, checked; `where` it stands.

    Raises:
        UserError: it is not "train" or "test".
    """
    if name not in ("train", "test"):
        raise UserError(f"{where}: the split is '{name}'; valid: train, test")
    return name


def with_both_splits(labels: Manifest) -> Manifest:
    """`labels`, when every class has images for training and for testing.

    Raises:
        UserError: one has not.
    """
    present = set(zip(labels.classes, labels.splits, strict=True))
    for class_name in labels.class_names:
        for split in ("train", "test"):
            if (class_name, split) not in present:
                raise UserError(f"class '{class_name}' has no {split} image; add some, or remove the class")
    return labels
