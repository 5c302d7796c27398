"""`ntkcl predict`: files and folders, three ways to print, and images that cannot be read."""

import csv
import io
import json
import os
import shutil
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from ntkcl import Classifier
from ntkcl.bench.memory import forget_peak, peak
from ntkcl.commands.cli import main
from ntkcl.commands.predictions import predictions, print_rows
from ntkcl.runs import resolve
from tests.helpers.digit_images import BACKBONE, Digits, write_folder

SAVED = "saved.safetensors"


@pytest.fixture
def photos(tiny: Path) -> Path:
    """A project with a saved classifier of 0, 1 and 4, and a folder with images of the three."""
    model = Classifier(BACKBONE, method="simplecil", device="cpu")
    model.learn(Digits("014", classes=["nought", "one", "four [red]"]))
    model.save(SAVED)
    return write_folder(Path("photos"), "014", each=2)


@pytest.fixture
def predict(capsys: pytest.CaptureFixture):
    """Runs the command in this process: its exit code, and what it printed."""

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main(["predict", *arguments, "--device", "cpu"])
        out, err = capsys.readouterr()
        return end.value.code or 0, out, err

    return run


def test_a_runs_state_predicts_a_folder_without_settings(finished: Path, predict) -> None:
    photos = write_folder(Path("photos"), "03", each=3)
    run = resolve("digits", "vit_tiny", "simplecil", 0)
    shutil.rmtree("params")
    code, out, _ = predict(str(run.state_path(1)), str(photos))
    rows = [line.split("\t") for line in out.splitlines()]
    assert code == 0
    assert [row[0] for row in rows] == [
        f"photos/digit{d}/{i}.png" for d, i in ((0, 0), (0, 1), (0, 2), (3, 3), (3, 4), (3, 5))
    ]
    assert all(row[1] in "0123456789" and -1 <= float(row[2]) <= 1 for row in rows)


def test_json_lines_hold_what_the_library_says(photos: Path, predict) -> None:
    code, out, _ = predict(SAVED, str(photos), "--json", "--top", "2")
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and len(rows) == 6
    expected = Classifier.load(SAVED, device="cpu").predict([row["image"] for row in rows], top=2)
    assert [[(each["label"], each["score"]) for each in row["predictions"]] for row in rows] == expected


def test_more_classes_than_there_are(photos: Path, predict) -> None:
    code, out, _ = predict(SAVED, str(photos / "digit0/0.png"), "--top", "9")
    (row,) = csv.reader(io.StringIO(out), delimiter="\t")
    assert code == 0 and len(row) == 1 + 2 * 3


def test_an_image_that_cannot_be_read_stops_no_other(photos: Path, predict) -> None:
    (photos / "digit0/broken.jpg").write_bytes(b"no image")
    code, out, err = predict(SAVED, str(photos), "missing.png")
    rows = list(csv.reader(io.StringIO(out), delimiter="\t"))
    assert code == 1 and len(rows) == 8
    bad = [row for row in rows if row[1].startswith("error: ")]
    assert [row[0] for row in bad] == ["photos/digit0/broken.jpg", "missing.png"]
    assert "cannot be read as an image" in bad[0][1]
    assert err == "error: 2 of 8 images could not be read; the lines above say why\n"
    code, out, _ = predict(SAVED, "missing.png", "--json")
    assert code == 1 and "cannot be read" in json.loads(out)["error"]


def test_a_table_on_a_terminal_shows_names_as_they_are(photos: Path) -> None:
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=100, color_system=None)
    model = Classifier.load(SAVED, device="cpu")
    rows = predictions(model, [photos / "digit4/4.png", Path("missing.png")], top=3)
    assert print_rows(rows, 3, False, console) == 1
    assert "four [red]" in text.getvalue() and "unreadable" in text.getvalue()
    assert "missing.png cannot be read (No such file or directory)" in text.getvalue()


def test_photographs_are_turned_as_their_camera_says(photos: Path, predict) -> None:
    upright = Image.open(photos / "digit4/4.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    upright.rotate(90).save("turned.png", exif=exif)
    _, out, _ = predict(SAVED, str(photos / "digit4/4.png"), "turned.png", "--top", "3")
    first, second = out.splitlines()
    assert first.split("\t")[1:] == second.split("\t")[1:]


def test_nothing_to_predict_and_nothing_to_predict_with(photos: Path, predict) -> None:
    Path("empty").mkdir()
    code, _, err = predict(SAVED, "empty")
    assert code == 1 and "there is no image in the folder empty" in err
    code, _, err = predict("none.safetensors", "photos")
    assert code == 1 and "none.safetensors is missing" in err


def test_other_files_and_names_in_a_folder(photos: Path, predict) -> None:
    """Files that are no images are counted, and names that are not UTF-8 are printed with escapes."""
    (photos / "digit0/0.png").rename(photos / "digit0" / os.fsdecode(b"caf\xe9.png"))
    (photos / "notes.txt").write_text("no image")
    code, out, err = predict(SAVED, str(photos), "--json")
    assert code == 0 and len(out.splitlines()) == 6
    assert json.loads(out.splitlines()[1])["image"].endswith("caf\\udce9.png")
    assert err == "warning: files in photos are left out: 1 .txt\n"


def test_pictures_are_cropped_one_by_one(photos: Path) -> None:
    """So that the memory does not depend on their number: 30 of 9 MB each take less than 12."""
    Image.new("L", (3000, 3000)).save("large.png")
    model = Classifier.load(SAVED, device="cpu")
    list(model.predict_each(["large.png"]))
    forget_peak(model.device)
    before = peak(model.device)
    assert len(list(model.predict_each(["large.png"] * 30))) == 30
    assert peak(model.device) - before < 12 * 9e6
