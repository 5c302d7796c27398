"""The datasets, as files: made once, then loaded and checked."""

import shutil
import sys
from pathlib import Path

from rich.filesize import decimal

from ntkcl.data.prepared.arrays import ImageSet, read_images, write_images
from ntkcl.data.prepared.manifest import Manifest
from ntkcl.data.prepared.packed import PackedSet
from ntkcl.data.sources.common.options import dataset_digest, options_of, source_of
from ntkcl.errors import UserError
from ntkcl.fetching.checksums import expected
from ntkcl.fetching.fetch import confirm, fetch
from ntkcl.settings.files import load_dataset
from ntkcl.settings.models import Dataset
from ntkcl.storage.files import write_json
from ntkcl.storage.lock import exclusive

FAR, MUCH = 0.02, 0.1  # by so much the number of images may differ from a reported one without a warning, an error


def dataset_folder(name: str) -> Path:
    """Where the files of the dataset `name` lie."""
    return Path("data") / name


def fetch_files(name: str) -> None:
    """Fetch the files that the dataset `name` is made from, and write `source.json`: what they are.

    Raises:
        UserError: the dataset is unknown, a download failed or must be done by hand, or a file is not what it must be.
    """
    files = load_dataset(name).files
    paths = fetch(name, files)
    content = {}
    for file, path in paths.items():
        known = expected(f"{name}/{file}", files[file])
        checksum = known.checksums.get("sha256") or known.check(path)["sha256"]
        content[file] = {"size": path.stat().st_size, "sha256": checksum}
    write_json(dataset_folder(name) / "source.json", content)


def prepare_dataset(name: str, threads: int = 1) -> None:
    """Make the images of the dataset `name` and write them to its folder; equal settings give equal bytes.

    Two processes that want one dataset make it once. What is odd but no error is said on standard error.

    Args:
        name: the dataset.
        threads: how many images are decoded at once, to see that they can be.

    Raises:
        UserError: the dataset or its source is unknown, a setting is wrong, a download failed or must be done by hand,
            the images are damaged or not as many as published, or the files cannot be written.
    """
    dataset = load_dataset(name)
    options, make = options_of(name, dataset), source_of(dataset).make
    lock = dataset_folder(name).with_name(f".{name}.lock")
    with exclusive(lock, f"prepares {name}", "free space or fix the permission") as waited:
        if waited and is_current(name):
            return
        files = fetch(name, dataset.files)
        _check_space(name, files)
        images = make(options, files) if files else make(options)
        _check_counts(images.manifest, dataset, f"params/datasets/{name}.yaml")
        write_images(dataset_folder(name), images, {"dataset": name, "digest": dataset_digest(name)}, threads)
        confirm(name, dataset.files)


def load_images(name: str, check: bool = True) -> ImageSet | PackedSet:
    """The images of the dataset `name`, as `prepare_dataset` wrote them.

    Args:
        name: the dataset.
        check: compare arrays with the manifest at once, see `ntkcl.data.prepared.arrays.read_images`.

    Raises:
        UserError: they are missing, damaged, or were made with other settings.
    """
    remedy = f"run `ntkcl data prepare {name}` (or `snakemake --cores all data`)"
    return read_images(dataset_folder(name), dataset_digest(name), remedy, check)


def is_current(name: str) -> bool:
    """Whether the dataset `name` is prepared with the present settings: both files, and they fit each other."""
    try:
        load_images(name, check=False)
    except UserError:
        return False
    return True


def _check_space(name: str, files: dict[str, Path]) -> None:
    """Images take about as much as the archives that they come in."""
    needed, free = (
        sum(path.stat().st_size for path in files.values()),
        shutil.disk_usage(dataset_folder(name).parent).free,
    )
    if needed > free:
        raise UserError(
            f"preparing {name} takes about {decimal(needed)}, but data/ has only {decimal(free)} left; free some"
        )


def _check_counts(labels: Manifest, dataset: Dataset, where: str) -> None:
    made = len(labels.class_names)
    if made != dataset.classes and dataset.files:
        raise UserError(
            f"{where}: {dataset.classes} classes are published, {made} were found; the files are not what they should "
            "be, or classes is wrong"
        )
    if made != dataset.classes:
        raise UserError(
            f"{where}: classes is {dataset.classes}, but the source '{dataset.source}' made {made}; "
            f"set classes to {made}, and first_task_classes and classes_per_task to match"
        )
    if (counts := dataset.counts) and abs(counts.train + counts.test - len(labels)) > MUCH * len(labels):
        raise UserError(
            f"{where}: {counts.train + counts.test} images are reported, {len(labels)} were found; the files are not "
            "what they should be, or counts is wrong"
        )
    for split in ("train", "test") if counts else ():
        expected, found = getattr(counts, split), labels.splits.count(split)
        if counts.exact and expected != found:
            raise UserError(
                f"{where}: {expected} {split} images are published, {found} were found; the files are not what "
                "they should be, or counts is wrong"
            )
        if abs(expected - found) > FAR * expected:  # only reported, or a guess: no error
            print(f"warning: {where}: about {expected} {split} images are reported, {found} found", file=sys.stderr)
