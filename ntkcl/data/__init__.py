"""The datasets, as files: made once, then loaded and checked."""

from pathlib import Path

from ntkcl.config import dataset_digest, load_dataset
from ntkcl.data.images import ImageSet, read_images, write_images
from ntkcl.data.sources import options_of, source_module
from ntkcl.errors import UserError


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
    images = source_module(dataset.source).make(options_of(name, dataset))
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
