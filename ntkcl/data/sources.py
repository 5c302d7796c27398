"""What makes images. A new source is one file here, one line in `SOURCES` and one YAML in `params/datasets/`."""

from importlib import import_module
from types import ModuleType

from ntkcl.errors import UserError, nearest
from ntkcl.settings import Dataset, Model
from ntkcl.validation import validated

SOURCES = {
    "archive": "ntkcl.data.archive_source",
    "cifar100": "ntkcl.data.cifar100",
    "digits": "ntkcl.data.digits",
    "folder": "ntkcl.data.image_folder",
    "glyphs": "ntkcl.data.glyphs",
    "letters": "ntkcl.data.letters",
    "table": "ntkcl.data.image_table",
}
"""Each module has a model `Options` and a function `make(options) -> ImageSet | FileSet`.

Where a dataset has files to fetch, `make(options, files)` also gets their paths by name.
"""


def source_module(name: str) -> ModuleType:
    """The module that makes the images of the source `name`.

    Raises:
        UserError: there is none.
    """
    if name not in SOURCES:
        raise UserError(f"unknown source '{name}' (in ntkcl/data/sources.py); {nearest(name, SOURCES)}")
    return import_module(SOURCES[name])


def options_of(name: str, dataset: Dataset) -> Model:
    """The options of the dataset `name`, checked by the source that they are for.

    Raises:
        UserError: the source is unknown, or an option is wrong.
    """
    return validated(source_module(dataset.source).Options, dataset.options, f"params/datasets/{name}.yaml, options")
