"""`ntkcl data list` and `verify`: what there is of each dataset, and which images are damaged."""

import shutil
from pathlib import Path

import pytest
from rich.console import Console

from ntkcl.data.prepared.prepare import fetch_files, load_images, prepare_dataset
from ntkcl.data.prepared.status import overview, prepared, show, verified
from ntkcl.fetching.fetch import downloads_folder
from tests.helpers.commands import ntkcl, one_line
from tests.helpers.http_server import Behaviour, FileServer
from tests.helpers.miniatures import MINIATURES
from tests.helpers.projects import clear_settings


@pytest.fixture
def server(project, tmp_path_factory):
    """A project with the miniatures of EuroSAT and of PlantVillage, which must be downloaded manually, and a server."""
    with FileServer(tmp_path_factory.mktemp("publisher")) as server:
        for name in ("eurosat", "plantvillage"):
            miniature = MINIATURES[name]()
            for file, content in miniature.files.items():
                (server.folder / file).write_bytes(content)
            miniature.adapt(name, server.url)
        clear_settings()
        yield server


def listed() -> str:
    console = Console(width=200, record=True)
    show(console)
    return console.export_text()


def test_each_state_says_what_to_do_next(server):
    assert overview("eurosat").state == "not fetched"
    assert "EuroSAT.zip (missing)" in overview("eurosat").todo
    manual = overview("plantvillage")
    assert manual.state == "manual"
    assert f"put plantdisease.zip into {downloads_folder()}/plantvillage" in manual.todo
    fetch_files("eurosat")
    assert (overview("eurosat").state, overview("eurosat").todo) == ("not prepared", "ntkcl data prepare eurosat")
    prepare_dataset("eurosat")
    ready = overview("eurosat")
    assert (ready.state, ready.todo) == ("ready", "")
    assert ready.found == ready.expected
    assert ready.size == Path("data/eurosat/images.safetensors").stat().st_size
    path = Path("params/datasets/eurosat.yaml")
    path.write_text(path.read_text().replace("seed: 0", "seed: 1"))
    clear_settings()
    assert overview("eurosat").state == "outdated"
    assert overview("eurosat").todo.endswith("; ntkcl data prepare eurosat")


def test_a_cut_download_is_shown_as_a_part(server):
    server.behaviours["EuroSAT.zip"] = Behaviour(cut_after=500)
    file = downloads_folder() / "eurosat" / "EuroSAT.zip.part"
    file.parent.mkdir(parents=True)
    file.write_bytes(bytes(500))
    assert "EuroSAT.zip (partial (500 bytes))" in overview("eurosat").todo


def test_the_list_shows_all_datasets_with_what_is_missing(server):
    prepare_dataset("eurosat")
    text = listed()
    assert "ready" in text
    assert "manual" in text
    assert "plantvillage: put plantdisease.zip" in text


def test_verify_names_each_damaged_image(server, capsys):
    shutil.copytree(server.folder, downloads_folder() / "plantvillage")
    for name in ("eurosat", "plantvillage"):
        prepare_dataset(name)
    assert prepared() == ["eurosat", "plantvillage"]
    path = Path("data/eurosat/images.safetensors")
    images = load_images("eurosat")
    content = bytearray(path.read_bytes())
    start = len(content) - images.spans.nbytes - len(images.encoded)
    for row in (3, 7):
        content[start + images.spans[row][0] + 30] ^= 1
    path.write_bytes(content)
    assert verified("plantvillage", 2)
    assert not verified("eurosat", 2)
    lines = capsys.readouterr().out.splitlines()
    damaged = [line for line in lines if "manifest" in line]
    assert damaged == [f"eurosat: {images.manifest.ids[row]}: its bytes do not match the manifest" for row in (3, 7)]
    assert [line.endswith(" 0 damaged") for line in lines if "read" in line] == [True, False]
    assert "damaged: eurosat; delete data/NAME" in one_line(ntkcl("data", "verify"))


def test_verify_names_damaged_images_of_arrays_too_and_goes_on(server, capsys):
    digits = "{label: D, source: digits, options: {size: 8}, classes: 10, first_task_classes: 2, classes_per_task: 2}"
    Path("params/datasets/digits.yaml").write_text(digits)
    clear_settings()
    for name in ("digits", "eurosat"):
        prepare_dataset(name)
    path = Path("data/digits/images.safetensors")
    content = bytearray(path.read_bytes())
    for row in (5, 900):
        content[row * 64 - 1797 * 64 - 1] ^= 1  # the last byte of the image before
    path.write_bytes(content)
    assert not verified("digits", 1)
    Path("data/eurosat/manifest.csv").unlink()
    assert not verified("eurosat", 1)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [f"digits: digit{row - 1:04d}: its pixels do not match the manifest" for row in (5, 900)]
    assert "manifest.csv is missing" in lines[-1]


def test_one_bad_dataset_does_not_hide_the_others(server):
    prepare_dataset("eurosat")
    Path("params/datasets/broken.yaml").write_text("label: B\nsorce: digits\n")
    manifest = Path("data/eurosat/manifest.csv")
    manifest.write_text(manifest.read_text().replace("image", "picture", 1))
    clear_settings()
    assert overview("broken").state == "settings wrong"
    assert overview("eurosat").state == "damaged"
    text = listed()
    assert "unknown key 'sorce'" in text
    assert "plantvillage: put plantdisease.zip" in text
