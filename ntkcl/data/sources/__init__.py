"""What makes images. A new source is one file here, one line in `SOURCES` and one YAML in `params/datasets/`."""

from importlib import import_module
from types import ModuleType

from ntkcl.errors import UserError, nearest
from ntkcl.settings import Dataset, Model
from ntkcl.validation import validated

SOURCES = ("archive", "cifar100", "digits", "folder", "glyphs", "letters", "table")
"""Each module has a model `Options` and a function `make(options) -> ImageSet | FileSet`.

Where a dataset has files to fetch, `make(options, files)` also gets their paths by name.
"""


def source_module(name: str) -> ModuleType:
    """The module that makes the images of the source `name`.

    Raises:
        UserError: there is none.
    """
    if name not in SOURCES:
        raise UserError(f"unknown source '{name}' (in ntkcl/data/sources/__init__.py); {nearest(name, SOURCES)}")
    return import_module(f"ntkcl.data.sources.{name}")


def options_of(name: str, dataset: Dataset) -> Model:
    """The options of the dataset `name`, checked by the source that they are for.

    Raises:
        UserError: the source is unknown, or an option is wrong.
    """
    return validated(source_module(dataset.source).Options, dataset.options, f"params/datasets/{name}.yaml, options")
