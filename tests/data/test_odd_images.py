"""Folders and images as people have them: other folders beside the split, damaged EXIF data, deep gray, odd names."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ntkcl.data.loading.transforms import eval_transform
from ntkcl.data.prepared.decoding import decode, picture_of, read_file
from ntkcl.data.prepared.status import verified
from ntkcl.errors import UserError
from ntkcl.settings.models import Preprocessing
from tests.data.test_own_images import failure, prepared, put, splits

GRADIENT = np.linspace(0, 1, 16)[None].repeat(16, 0)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """The content of an image file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def gray(content: bytes) -> np.ndarray:
    """What a network with one channel sees."""
    return np.asarray(picture_of(decode(content, "x"), 1), dtype=int)


@pytest.mark.parametrize(
    "train,test,left",
    [
        ("train", "test", "val"),
        ("Train", "Test", ""),
        ("train", "valid", ""),
        ("training", "testing", "validation"),
        ("TRAIN", "dev", ""),
    ],
)
def test_folders_of_a_split_are_no_classes(project, capsys, train, test, left):
    names = [f"{s}/{c}/{n}.jpg" for s in (train, test, left) if s for c in ("cat", "dog", "fox") for n in range(2)]
    put(names)
    Path("mine/__MACOSX/cat").mkdir(parents=True)
    Path("mine/__MACOSX/cat/0.jpg").write_bytes(b"resource fork")
    Path("mine/docs").mkdir()
    Path("mine/docs/read.md").write_text("about")
    images = prepared("folder", path="mine", classes=3)
    assert images.manifest.class_names == ["cat", "dog", "fox"]
    used = [name for name in names if not left or not name.startswith(left)]
    assert splits(images) == {name: "train" if name.startswith(f"{train}/") else "test" for name in used}
    assert ("are for validation, and left out" in capsys.readouterr().err) == bool(left)


def test_images_beside_the_folders_of_a_split_are_refused(project):
    put([f"{split}/{c}/{n}.jpg" for split in ("train", "test") for c in ("cat", "dog") for n in range(2)])
    put(["extra/cat/0.jpg"])
    assert "images in extra/ beside them" in failure("folder", path="mine")


def test_a_class_can_be_called_train(project):
    put([f"{c}/{n}.jpg" for c in ("train", "bus") for n in range(3)])
    assert prepared("folder", path="mine").manifest.class_names == ["bus", "train"]


def test_what_is_left_out_of_a_folder_is_said(project, capsys):
    put([f"{c}/{n}.jpg" for c in ("cat", "dog") for n in range(2)])
    Image.fromarray(np.zeros((8, 8), np.uint8)).save("mine/cat/a.jfif", "JPEG")
    for name in ("a.xyz", "b.XYZ", "none"):
        Path("mine/dog", name).write_bytes(b"x")
    images = prepared("folder", path="mine")
    assert "cat/a.jfif" in images.manifest.ids and len(images.manifest) == 5
    assert "3 files in mine are left out: 2 .xyz, 1 without ending" in capsys.readouterr().err


@pytest.mark.parametrize("name", [b"caf\xe9.jpg", b"a\nb.jpg"])
def test_names_that_cannot_be_stored_are_refused(project, name):
    put([f"{c}/{n}.jpg" for c in ("cat", "dog") for n in range(3)])
    Path("mine/cat/0.jpg").rename(Path("mine/cat", os.fsdecode(name)))
    message = failure("folder", path="mine")
    assert "rename it" in message and message.isprintable() and "mine/cat/" in message


def test_links_to_nothing_and_pipes_are_named(project):
    put([f"{c}/{n}.jpg" for c in ("cat", "dog") for n in range(3)])
    Path("mine/cat/x.jpg").symlink_to("x.jpg")
    assert "mine/cat/x.jpg is a link that leads nowhere; remove it" in failure("folder", path="mine")
    Path("mine/cat/x.jpg").unlink()
    os.mkfifo("mine/cat/x.jpg")
    assert "mine/cat/x.jpg is not a regular file" in failure("folder", path="mine")
    with pytest.raises(UserError, match="not a regular file"):
        read_file(Path("mine/cat/x.jpg"))


def damaged_exif(kind: str) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    damaged = exif.tobytes().replace(b"MM\0*", b"MM\0\xff").replace(b"II*\0", b"II\xff\0")
    return encoded(Image.fromarray((255 * GRADIENT).astype(np.uint8)), kind, exif=damaged)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG"])
def test_exif_data_that_cannot_be_read_count_as_none(project, kind, capsys):
    content = damaged_exif(kind)
    assert abs(gray(content) - 255 * GRADIENT).mean() < 3
    put([f"{c}/{n}.jpg" for c in ("cat", "dog") for n in range(3)])
    Path("mine/cat/odd.jpg").write_bytes(content)
    prepared("folder", path="mine")
    assert verified("own", 1)


@pytest.mark.parametrize("mode", ["LAB", "CMYK", "YCbCr", "1", "P", "LA", "RGBA"])
def test_every_mode_becomes_gray_and_color(mode):
    image = Image.new("RGB", (4, 4), (120, 120, 120)).convert("RGB" if mode == "LAB" else mode)
    image = Image.frombytes("LAB", (4, 4), bytes([120, 0, 0] * 16)) if mode == "LAB" else image
    content = encoded(image, "TIFF" if mode in ("LAB", "CMYK", "YCbCr") else "PNG")
    both = [picture_of(decode(content, "x"), channels) for channels in (1, 3)]
    assert [each.mode for each in both] == ["L", "RGB"]


def deep(kind: str) -> bytes:
    words = (65535 * GRADIENT).round().astype(np.uint16)
    if kind == "PGM":
        return b"P5 16 16 65535\n" + words.astype(">u2").tobytes()
    if kind == "float TIFF":
        return encoded(Image.fromarray(GRADIENT.astype(np.float32)), "TIFF")
    return encoded(Image.fromarray(words), kind)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PGM", "float TIFF"])
def test_deep_gray_has_its_brightness(kind):
    assert abs(gray(deep(kind)) - 255 * GRADIENT).max() <= 1


@pytest.mark.parametrize("values", [np.int32([[0, 70000]]), np.float32([[0, 200]]), np.float32([[0, np.nan]])])
def test_deep_gray_of_unknown_range_is_refused(values):
    with pytest.raises(UserError, match=r"x has .* whose range is unknown; save it with 8 or 16 bits"):
        decode(encoded(Image.fromarray(values), "TIFF"), "x")


def test_a_very_long_image_is_seen_as_before_without_its_ends():
    wide = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8 * 32), dtype=np.uint8))
    longer = Image.new("L", (8 * 400, 8))
    longer.paste(wide, (8 * 184, 0))
    found = [np.asarray(eval_transform(image, Preprocessing(), 16), dtype=int) for image in (wide, longer)]
    assert found[0].std() > 20
    assert abs(found[0] - found[1]).max() <= 1
    assert eval_transform(Image.new("L", (1, 20000)), Preprocessing(), 224).size == (224, 224)
