"""Sources of images, and the options of a dataset for its source."""

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, NamedTuple, Union

from ntkcl.registry import SOURCES
from ntkcl.settings.digest import digest_of
from ntkcl.settings.files import load_dataset
from ntkcl.settings.models import Dataset, Model
from ntkcl.settings.validation import validated

if TYPE_CHECKING:
    from ntkcl.data.prepared.arrays import ImageSet
    from ntkcl.data.prepared.packed import FileSet


class Source(NamedTuple):
    """A source of images; every module of `ntkcl.data.sources` has one, called `SOURCE`.

    Args:
        options: model of its options, `options` in the YAML of a dataset.
        make: function of the options and, if the dataset has files to download, of their paths by name.
    """

    options: type[Model]
    make: Callable[..., Union["ImageSet", "FileSet"]]


def source_of(dataset: Dataset) -> Source:
    """Return the source of `dataset`.

    Raises:
        UserError: there is no such source.
    """
    return SOURCES.load(dataset.source)


def options_of(name: str, dataset: Dataset) -> Model:
    """Return the options of the dataset `name`, validated by its source.

    Raises:
        UserError: the source is unknown, or an option is wrong.
    """
    return validated(source_of(dataset).options, dataset.options, f"params/datasets/{name}.yaml, options")


@cache
def dataset_digest(name: str) -> str:
    """Return the digest of a dataset: a name for the content of its prepared files.

    Raises:
        UserError: the source of the dataset is unknown, or one of its options is wrong.
    """
    dataset = load_dataset(name)
    return digest_of(dataset.source, options_of(name, dataset), dataset.classes)
