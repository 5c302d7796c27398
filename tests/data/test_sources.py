"""The prepared datasets: what is in them, and what happens when their files do not fit."""

import csv
import string
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from ntkcl.data.prepared import prepare
from ntkcl.data.prepared.arrays import write_images
from ntkcl.data.prepared.manifest import Manifest
from ntkcl.data.prepared.prepare import is_current, load_images, prepare_dataset
from ntkcl.data.sources import digits, glyphs, letters
from ntkcl.data.sources.common import rendering
from ntkcl.errors import UserError
from tests.helpers.projects import clear_settings


def write_dataset(name: str = "small", source: str = "digits", classes: int = 10, options: str = "{size: 8}") -> None:
    """Settings of a dataset that takes no time to prepare."""
    text = f"{{label: Small, source: {source}, options: {options}, classes: {classes}, "
    text += "first_task_classes: 2, classes_per_task: 2}"
    Path(f"params/datasets/{name}.yaml").write_text(text, encoding="utf-8")
    clear_settings()


@pytest.fixture
def prepared(project: Path) -> Path:
    """The folder of a small dataset."""
    write_dataset()
    prepare_dataset("small")
    return project / "data" / "small"


def failure(name: str = "small") -> str:
    """The message of the error on loading, which is one line."""
    with pytest.raises(UserError) as error:
        load_images(name)
    message = str(error.value)
    assert "\n" not in message
    return message


def test_preparing_twice_gives_equal_bytes_and_loading_gives_what_was_made(prepared: Path) -> None:
    before = {file.name: file.read_bytes() for file in prepared.iterdir()}
    prepare_dataset("small")
    assert before == {file.name: file.read_bytes() for file in prepared.iterdir()}
    assert set(before) == {"images.safetensors", "manifest.csv"}
    made, loaded = digits.make(digits.Options(size=8)), load_images("small")
    assert torch.equal(made.images, loaded.images)
    assert made.manifest == loaded.manifest


def test_manifest_has_one_row_per_image_in_the_order_of_the_tensor(prepared: Path) -> None:
    with (prepared / "manifest.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["image", "class", "split", "sha256"]
    assert [row["image"] for row in rows] == load_images("small").manifest.ids


def test_digits_are_split_by_class_and_validation_never_sees_a_test_image() -> None:
    full, validation = digits.make(digits.Options()), digits.make(digits.Options(holdout="validation"))
    assert full.images.shape == (1797, 1, 32, 32)
    for images, fraction in ((full, 0.3), (validation, 0.25)):
        tests = Counter(
            c for c, split in zip(images.manifest.classes, images.manifest.splits, strict=True) if split == "test"
        )
        assert all(abs(tests[c] - fraction * count) <= 0.5 for c, count in Counter(images.manifest.classes).items())
    train = {image for image, split in zip(full.manifest.ids, full.manifest.splits, strict=True) if split == "train"}
    assert set(validation.manifest.ids) == train
    assert digits.make(digits.Options(seed=1)).manifest.splits != full.manifest.splits


def test_glyphs_have_equally_many_images_per_class_and_no_font_in_both_splits() -> None:
    for holdout in ("test", "validation"):
        images = glyphs.make(glyphs.Options(size=8, holdout=holdout))
        counts = Counter(zip(images.manifest.classes, images.manifest.splits, strict=True))
        assert len(set(images.manifest.classes)) == 100
        assert set(counts.items()) == {
            ((c, s), n) for c in images.manifest.classes for s, n in (("train", 36), ("test", 24))
        }
        fonts = {split: set() for split in ("train", "test")}
        for image, split in zip(images.manifest.ids, images.manifest.splits, strict=True):
            fonts[split].add(image.split("/")[1])
        assert not fonts["train"] & fonts["test"]
        if holdout == "validation":
            assert not (fonts["train"] | fonts["test"]) & set(glyphs.TEST_FONTS)


def test_no_glyph_looks_like_a_latin_letter_a_digit_or_another_glyph() -> None:
    """The listed characters follow the rule by which they were chosen."""
    fonts = glyphs.TRAIN_FONTS + glyphs.TEST_FONTS
    latin = string.ascii_letters + string.digits
    vectors = np.stack([[blurred(character, font) for font in fonts] for character in latin + glyphs.CHARACTERS])
    per_font = np.einsum("afp,bfp->abf", vectors, vectors)[len(latin) :]
    mean = per_font.mean(-1)
    mean[np.arange(100), len(latin) + np.arange(100)] = 0
    assert mean.max() <= 0.86
    assert per_font[:, : len(latin)].max() <= 0.93
    assert len(set(glyphs.CHARACTERS)) == 100


def blurred(character: str, font: str) -> np.ndarray:
    """A rendered character as a vector of length 1 without a mean."""
    image = Image.fromarray(rendering.render(character, font, 32)).filter(ImageFilter.GaussianBlur(1))
    vector = np.asarray(image, dtype=np.float64).ravel()
    vector = vector - vector.mean()
    return vector / np.linalg.norm(vector)


def test_letters_are_the_52_latin_ones_and_no_image_is_in_both_splits() -> None:
    made = letters.make(letters.Options(size=16))
    assert set(made.manifest.classes) == set(string.ascii_letters)
    sides: dict[str, set[bytes]] = {"train": set(), "test": set()}
    for letter, image, split in zip(made.manifest.classes, made.images.numpy(), made.manifest.splits, strict=True):
        sides[split].add(letter.encode() + image.tobytes())
    assert not sides["train"] & sides["test"]
    assert 0.08 < len(sides["test"]) / len(made.manifest.ids) < 0.12


def test_rendering_turns_anticlockwise_and_shifts_right_and_down() -> None:
    upright = rendering.render("−", "DejaVuSans", 32).astype(float)
    turned = rendering.render("−", "DejaVuSans", 32, rotation=30).astype(float)
    moved = rendering.render("−", "DejaVuSans", 32, shift=(0.1, 0.2)).astype(float)
    rows, columns = np.mgrid[:32, :32]
    assert (turned * (rows - 15.5) * (columns - 15.5)).sum() < 0  # the right end is higher: smaller rows
    for axis, expected in ((rows, 0.2 * 32), (columns, 0.1 * 32)):
        centres = [(image * axis).sum() / image.sum() for image in (upright, moved)]
        assert centres[1] - centres[0] == pytest.approx(expected, abs=0.2)


def test_missing_glyphs_fonts_and_sources_are_one_line_errors(project: Path) -> None:
    with pytest.raises(UserError, match="no glyph"):
        rendering.render("Ж", "cmr10", 32)
    with pytest.raises(UserError, match="no font file"):
        rendering.render("A", "NoSuchFont", 32)
    write_dataset(source="digit")
    with pytest.raises(UserError, match="did you mean 'digits'"):
        prepare_dataset("small")
    write_dataset(options="{sise: 8}")
    with pytest.raises(UserError, match=r"params/datasets/small.yaml, options: .*did you mean 'size'"):
        prepare_dataset("small")
    write_dataset(classes=12)
    with pytest.raises(UserError, match="classes is 12, but the source 'digits' made 10"):
        prepare_dataset("small")


def test_missing_damaged_and_outdated_files_are_one_line_errors(prepared: Path) -> None:
    tensors, manifest = prepared / "images.safetensors", prepared / "manifest.csv"
    content, rows = tensors.read_bytes(), manifest.read_text(encoding="utf-8")
    tensors.write_bytes(content[: len(content) // 2])
    assert "damaged" in failure()
    tensors.write_bytes(b"something else, longer than eight bytes")
    assert "damaged" in failure()
    tensors.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert "does not have the sha256" in failure()
    tensors.unlink()
    assert "missing; run `ntkcl data prepare small`" in failure()
    tensors.write_bytes(content)
    manifest.write_text(rows[: rows.rindex("digit")], encoding="utf-8")
    assert "does not belong" in failure()
    manifest.write_text(rows.replace("split", "part"), encoding="utf-8")
    assert "columns" in failure()
    manifest.unlink()
    assert "missing" in failure()
    write_dataset(options="{size: 8, seed: 1}")
    assert "other settings" in failure()


def test_image_sets_that_contradict_themselves_are_refused() -> None:
    with pytest.raises(ValueError, match="equally many"):
        Manifest(["0", "1"], ["a"], ["train", "test"])
    with pytest.raises(ValueError, match="unique"):
        Manifest(["0", "0"], ["a", "b"], ["train", "test"])
    with pytest.raises(ValueError, match="'train' or 'test'"):
        Manifest(["0", "1"], ["a", "b"], ["train", "val"])


def test_who_waits_for_a_dataset_does_not_prepare_it_again(project: Path, monkeypatch, capsys) -> None:
    write_dataset()
    second, writes = threading.Thread(target=prepare_dataset, args=("small",)), []

    def write_when_another_waits(*arguments) -> None:
        writes.append(arguments)
        second.start()
        deadline = time.monotonic() + 60
        while "waiting for another process that prepares small" not in capsys.readouterr().err:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        write_images(*arguments)

    monkeypatch.setattr(prepare, "write_images", write_when_another_waits)
    prepare_dataset("small")
    second.join()
    assert len(writes) == 1
    assert len(load_images("small").manifest) == 1797


def test_a_number_of_images_that_differs_from_reports_is_said(project: Path, capsys) -> None:
    write_dataset()
    path = Path("params/datasets/small.yaml")
    for exact, train in (("false", 1258), ("false", 1100), ("true", 1100)):
        counts = f"counts: {{train: {train}, test: 539, exact: {exact}}}, label"
        write_dataset()
        path.write_text(path.read_text().replace("label", counts, 1))
        clear_settings()
        if exact == "true":
            with pytest.raises(UserError, match="1100 train images are published, 1258 were found"):
                prepare_dataset("small")
        else:
            prepare_dataset("small")
            assert ("about 1100 train images are reported, 1258 found" in capsys.readouterr().err) == (train == 1100)


def test_a_dataset_is_current_only_when_both_files_are_there_and_fit(prepared: Path) -> None:
    """A process that was killed between the two leaves pixels alone: one that waited for it must go on itself."""
    assert is_current("small")
    manifest = prepared / "manifest.csv"
    rows = manifest.read_text()
    manifest.write_text(rows[: rows.rindex("digit")])
    assert not is_current("small")
    manifest.unlink()
    assert not is_current("small")
