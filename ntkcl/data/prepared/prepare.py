"""Preparation of datasets: create their files once, then load and check them."""

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

COUNT_WARNING_TOLERANCE, COUNT_ERROR_TOLERANCE = 0.02, 0.1  # relative differences to a reported number of images


def dataset_folder(name: str) -> Path:
    """Return the folder of the dataset `name`."""
    return Path("data") / name


def fetch_files(name: str) -> None:
    """Download the files of the dataset `name`, and write their sizes and checksums to `source.json`.

    Raises:
        UserError: the dataset is unknown, a download failed or must be done by the user, or a file has other content.
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
    """Create the images of the dataset `name` and write them to its folder; equal settings give equal bytes.

    If two processes need the same dataset, one creates it. Warnings go to standard error.

    Args:
        name: name of the dataset.
        threads: number of images to decode at the same time, to check them.

    Raises:
        UserError: the dataset or its source is unknown, a setting is wrong, a download failed or must be done by the
            user, the images are damaged or not as many as published, or the files cannot be written.
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
    """Load the images of the dataset `name`, as `prepare_dataset` wrote them.

    Args:
        name: name of the dataset.
        check: compare arrays with the manifest at once, see `ntkcl.data.prepared.arrays.read_images`.

    Raises:
        UserError: they are missing or damaged, or were created with other settings.
    """
    remedy = f"run `ntkcl data prepare {name}`"  # which makes all files again, where Snakemake has nothing to do
    return read_images(dataset_folder(name), dataset_digest(name), remedy, check)


def is_current(name: str) -> bool:
    """Return whether the dataset `name` is prepared with the current settings, with both files matching each other."""
    try:
        load_images(name, check=False)
    except UserError:
        return False
    return True


def _check_space(name: str, files: dict[str, Path]) -> None:
    """Check the disk space; images need about as much as their archives."""
    needed, free = (
        sum(path.stat().st_size for path in files.values()),
        shutil.disk_usage(dataset_folder(name).parent).free,
    )
    if needed > free:
        raise UserError(
            f"preparing {name} needs about {decimal(needed)}, but data/ has only {decimal(free)} left; free some"
        )


def _check_counts(labels: Manifest, dataset: Dataset, where: str) -> None:
    found = len(labels.class_names)
    if found != dataset.classes and dataset.files:
        raise UserError(
            f"{where}: {dataset.classes} classes are published, {found} were found; check the files, or correct classes"
        )
    if found != dataset.classes:
        raise UserError(
            f"{where}: classes is {dataset.classes}, but the source '{dataset.source}' made {found}; "
            f"set classes to {found}, and first_task_classes and classes_per_task to match"
        )
    if (counts := dataset.counts) and abs(counts.train + counts.test - len(labels)) > COUNT_ERROR_TOLERANCE * len(
        labels
    ):
        raise UserError(
            f"{where}: {counts.train + counts.test} images are reported, {len(labels)} were found; check the "
            "files, or correct counts"
        )
    for split in ("train", "test") if counts else ():
        expected, found = getattr(counts, split), labels.splits.count(split)
        if counts.exact and expected != found:
            raise UserError(
                f"{where}: {expected} {split} images are published, {found} were found; check the files, or "
                "correct counts"
            )
        if abs(expected - found) > COUNT_WARNING_TOLERANCE * expected:  # not published exactly: only a warning
            print(f"warning: {where}: about {expected} {split} images are reported, {found} found", file=sys.stderr)
