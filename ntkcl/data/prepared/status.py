"""State of each dataset: what exists, and whether it is complete."""

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from rich import box, filesize
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ntkcl.data.prepared.arrays import FORMAT, MANIFEST, PIXELS, VERSION, ImageSet
from ntkcl.data.prepared.manifest import read_manifest
from ntkcl.data.prepared.packed import PackedSet
from ntkcl.data.prepared.prepare import dataset_folder, load_images
from ntkcl.data.sources.common.options import dataset_digest
from ntkcl.errors import UserError
from ntkcl.fetching.fetch import downloads_folder, status
from ntkcl.progress import tracked
from ntkcl.settings.files import all_names, load_dataset
from ntkcl.storage.tensors import checked_metadata


@dataclass(frozen=True)
class Overview:
    """State of a dataset: expected and found images, and what to do next."""

    name: str
    classes: int
    tasks: int
    expected: str
    found: str
    size: int
    state: str
    todo: str


def overview(name: str) -> Overview:
    """Return the state of the dataset `name`, without reading its images."""
    try:
        dataset = load_dataset(name)
        dataset_digest(name)
    except UserError as error:
        return Overview(name, 0, 0, "", "", 0, "settings wrong", str(error))
    expected, found = "", ""
    if counts := dataset.counts:
        expected = f"{'' if counts.exact else 'about '}{counts.train:,} / {counts.test:,}"
    pixels = dataset_folder(name) / PIXELS
    size = pixels.stat().st_size if pixels.is_file() else 0
    state, todo = _prepared_state(name) if size else _files_state(name)
    if state == "ready":
        labels, _ = read_manifest(dataset_folder(name) / MANIFEST, "")
        found = f"{labels.splits.count('train'):,} / {labels.splits.count('test'):,}"
    return Overview(name, dataset.classes, len(dataset.task_sizes), expected, found, size, state, todo)


def overviews() -> list[Overview]:
    """Return the states of all datasets of `params/datasets/`, by name."""
    return [overview(name) for name in all_names("datasets")]


def prepared() -> list[str]:
    """Return the names of the prepared datasets."""
    return [name for name in all_names("datasets") if (dataset_folder(name) / PIXELS).is_file()]


def show(console: Console | None = None) -> None:
    """Print all datasets as a table, and what to do for those that are not ready."""
    console = console or Console(width=None if sys.stdout.isatty() else 200)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("dataset", "state", "classes", "tasks", "images (train / test)", "size"):
        table.add_column(heading, justify="left" if heading in ("dataset", "state") else "right")
    rows = overviews()
    for row in rows:
        size = filesize.decimal(row.size) if row.size else ""
        images = f"{row.found} ({row.expected})" if row.expected not in ("", row.found) else row.found
        table.add_row(row.name, row.state, str(row.classes), str(row.tasks), images, size)
    console.print(table)
    for row in rows:
        if row.todo:
            console.print(Text(f"{row.name}: {row.todo}"), soft_wrap=True)


def verified(name: str, threads: int) -> bool:
    """Read every image of the prepared dataset `name`, print the damaged ones, and return whether there are none."""
    try:
        images = load_images(name, check=False)
    except UserError as error:
        print(f"{name}: {error}")
        return False
    ids, damages = images.manifest.ids, 0
    with ThreadPoolExecutor(threads) as pool:
        checks = tracked(pool.map(images.damage, range(len(ids))), name, len(ids), "images")
        for image, damage in zip(ids, checks, strict=True):
            if damage:
                damages += 1
                print(f"{name}: {image}: {damage}")
    print(f"{name}: {len(ids)} images read, {damages} damaged")
    print(f"{name}: {_in_both_splits(images)}")
    return not damages


def _in_both_splits(images: ImageSet | PackedSet) -> str:
    """Say how many test images have the very content of a training image; near-duplicates do not count."""
    rows = list(zip(images.manifest.splits, images.checksums, images.manifest.ids, strict=True))
    train = {checksum: image for split, checksum, image in rows if split == "train"}
    both = [(image, train[checksum]) for split, checksum, image in rows if split == "test" and checksum in train]
    example = f", as {both[0][0]} and {both[0][1]}" if both else ""
    return f"{len(both)} test images have the content of a training image{example}"


def _prepared_state(name: str) -> tuple[str, str]:
    remedy = f"ntkcl data prepare {name}"
    try:
        checked_metadata(dataset_folder(name) / PIXELS, FORMAT, VERSION, dataset_digest(name), remedy)
        read_manifest(dataset_folder(name) / MANIFEST, remedy)
    except UserError as error:
        return ("outdated" if "other settings" in str(error) else "damaged"), str(error)
    return "ready", ""


def _files_state(name: str) -> tuple[str, str]:
    """Return the state of the dataset's downloads, and what to do."""
    files = status(name, load_dataset(name).files)
    manual = [file for file, present in files.items() if present == "manual"]
    if manual:
        return "manual", f"put {', '.join(manual)} into {downloads_folder() / name} (how: ntkcl data fetch {name})"
    if missing := [f"{file} ({present})" for file, present in files.items() if not present.startswith("present")]:
        return "not fetched", f"ntkcl data fetch {name}: {', '.join(missing)}"
    return "not prepared", f"ntkcl data prepare {name}"
