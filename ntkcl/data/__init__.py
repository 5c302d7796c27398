"""The datasets, as files: made once, then loaded and checked."""

from pathlib import Path

from ntkcl.config import dataset_digest, load_dataset
from ntkcl.data.images import ImageSet, PackedSet, read_images, write_images
from ntkcl.data.sources import options_of, source_module
from ntkcl.errors import UserError
from ntkcl.fetching import fetch
from ntkcl.fetching.checksums import expected
from ntkcl.files import write_json


def folder(name: str) -> Path:
    """Where the files of the dataset `name` lie."""
    return Path("data") / name


def fetch_files(name: str) -> None:
    """Fetch the files that the dataset `name` is made from, and write `source.json`: what they are.

    Raises:
        UserError: the dataset is unknown, a download failed or must be done by hand, or a file is not what it must be.
    """
    files = load_dataset(name).files
    paths = fetch(name, files)
    known = {file: expected(f"{name}/{file}", files[file]) for file in files}
    content = {file: {"bytes": paths[file].stat().st_size} | known[file].checksums for file in files}
    write_json(folder(name) / "source.json", content)


def prepare(name: str, threads: int = 1) -> None:
    """Make the images of the dataset `name` and write them to its folder; equal settings give equal bytes.

    Raises:
        UserError: the dataset or its source is unknown, a setting is wrong, a download failed or must be done by hand,
            the images are damaged or not as many as published, or the files cannot be written.
    """
    dataset = load_dataset(name)
    where = f"params/datasets/{name}.yaml"
    options, make = options_of(name, dataset), source_module(dataset.source).make
    images = make(options, fetch(name, dataset.files)) if dataset.files else make(options)
    made = len(images.labels.class_names)
    if made != dataset.classes:
        raise UserError(
            f"{where}: classes is {dataset.classes}, but the source '{dataset.source}' made {made}; "
            f"set classes to {made}, and first_task and later_tasks to match"
        )
    if dataset.counts and dataset.counts.exact:
        for split in ("train", "test"):
            expected, found = getattr(dataset.counts, split), images.labels.splits.count(split)
            if expected != found:
                raise UserError(
                    f"{where}: {expected} {split} images are published, {found} were found; the files are not what "
                    "they should be, or counts is wrong"
                )
    write_images(folder(name), images, {"dataset": name, "digest": dataset_digest(name)}, threads)


def load(name: str) -> ImageSet | PackedSet:
    """The images of the dataset `name`, as `prepare` wrote them.

    Raises:
        UserError: they are missing, damaged, or were made with other settings.
    """
    remedy = f"run `ntkcl data prepare {name}` (or `snakemake --cores all data`)"
    return read_images(folder(name), dataset_digest(name), remedy, load_dataset(name).exif_rotation)
