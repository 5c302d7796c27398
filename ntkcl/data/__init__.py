"""The datasets. A new source is one file here, one line in `SOURCES` and one YAML in `params/datasets/`."""

from importlib import import_module
from pathlib import Path
from types import ModuleType

from ntkcl.config import dataset_digest, load_dataset, validated
from ntkcl.data.images import ImageSet, read_images, write_images
from ntkcl.errors import UserError, nearest
from ntkcl.settings import Model

SOURCES = {
    "digits": "ntkcl.data.digits",
    "glyphs": "ntkcl.data.glyphs",
    "letters": "ntkcl.data.letters",
}
"""Each module has a model `Options` and a function `make(options: Options) -> ImageSet`."""


def source_module(name: str) -> ModuleType:
    """The module that makes the images of the source `name`.

    Raises:
        UserError: there is none.
    """
    if name not in SOURCES:
        raise UserError(f"unknown source '{name}' (in ntkcl/data/__init__.py); {nearest(name, SOURCES)}")
    return import_module(SOURCES[name])


def options_of(name: str) -> Model:
    """The options of the dataset `name`, checked by the source that they are for.

    Raises:
        UserError: the source is unknown, or an option is wrong.
    """
    dataset = load_dataset(name)
    return validated(source_module(dataset.source).Options, dataset.options, f"params/datasets/{name}.yaml, options")


def folder(name: str) -> Path:
    """Where the files of the dataset `name` lie."""
    return Path("data") / name


def prepare(name: str) -> None:
    """Make the images of the dataset `name` and write them to its folder; equal settings give equal bytes.

    Raises:
        UserError: the dataset or its source is unknown, a setting is wrong, or the files cannot be written.
    """
    dataset = load_dataset(name)
    where = f"params/datasets/{name}.yaml"
    images = source_module(dataset.source).make(options_of(name))
    made = len(set(images.classes))
    if made != dataset.classes:
        raise UserError(
            f"{where}: classes is {dataset.classes}, but the source '{dataset.source}' made {made}; "
            f"set classes to {made}, and first_task and later_tasks to match"
        )
    write_images(folder(name), images, {"dataset": name, "digest": dataset_digest(name)})


def load(name: str) -> ImageSet:
    """The images of the dataset `name`, as `prepare` wrote them.

    Raises:
        UserError: they are missing, damaged, or were made with other settings.
    """
    expected = dataset_digest(name)
    return read_images(folder(name), expected, remedy=f"run `ntkcl data {name}` (or `snakemake --cores all data`)")


__all__ = ["SOURCES", "ImageSet", "folder", "load", "options_of", "prepare", "source_module"]
