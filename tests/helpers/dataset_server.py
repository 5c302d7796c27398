"""From a miniature on a server to a prepared dataset, and the error where that fails."""

import shutil
from pathlib import Path

import pytest
import yaml

from ntkcl.data.prepared.arrays import ImageSet
from ntkcl.data.prepared.packed import PackedSet
from ntkcl.data.prepared.prepare import load_images, prepare_dataset
from ntkcl.errors import UserError
from tests.helpers.http_server import FileServer
from tests.helpers.miniatures import Miniature
from tests.helpers.projects import clear_settings

BY_HAND = ["plantvillage", "vtab"]


def publish(name: str, miniature: Miniature, server: FileServer) -> None:
    """Put the archives on the server, and the settings that lead there into the project."""
    for file, content in miniature.files.items():
        (server.folder / file).write_bytes(content)
    miniature.adapt(name, server.url)
    clear_settings()


def change(name: str, **settings: object) -> None:
    """Set options of the dataset `name`; `split` is laid over the one that is there."""
    path = Path(f"params/datasets/{name}.yaml")
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    for key, value in settings.items():
        old = content["options"].get(key)
        content["options"][key] = old | value if isinstance(old, dict) and key == "split" else value
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    clear_settings()


def count(name: str, **counts: int) -> None:
    """Set the expected counts of the dataset `name`."""
    path = Path(f"params/datasets/{name}.yaml")
    content = yaml.safe_load(path.read_text(encoding="utf-8")) | {"counts": counts}
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    clear_settings()


def prepared(name: str, miniature: Miniature, server: FileServer) -> ImageSet | PackedSet:
    """The dataset as it is when archives have been fetched, by hand where they must be."""
    publish(name, miniature, server)
    if name in BY_HAND:
        shutil.copytree(server.folder, f"downloads/{name}")
    prepare_dataset(name)
    return load_images(name)


def failure(name: str) -> str:
    """The message of the error on preparing, which is one line; nothing is left under a final name."""
    with pytest.raises(UserError) as error:
        prepare_dataset(name)
    assert not [*Path("data").glob("*/*")]
    assert "\n" not in str(error.value)
    return str(error.value)
