"""Images kept as they were encoded, in one file."""

import io

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open

from ntkcl.data.prepared.arrays import read_images, write_images
from ntkcl.data.prepared.manifest import Manifest
from ntkcl.data.prepared.packed import FileSet, PackedSet
from ntkcl.errors import UserError

KINDS = {"JPEG": "RGB", "PNG": "P", "BMP": "L", "TIFF": "CMYK", "WEBP": "RGBA", "GIF": "P"}
ABOUT = {"dataset": "toy", "digest": "d"}


def encoded(kind, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 17, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).convert(KINDS[kind]).save(file, kind)
    return file.getvalue()


CONTENTS = [encoded(kind, seed) for seed, kind in enumerate(KINDS)]
LABELS = Manifest([f"im{n}" for n in range(6)], list("bababa"), ["train", "test"] * 3, class_names=["b", "a"])


def pack(folder, contents=CONTENTS, order=(3, 1, 5, 0, 2, 4)):
    write_images(folder, FileSet(LABELS, ((row, contents[row]) for row in order)), ABOUT)
    return folder


def test_images_come_back_in_the_manifests_order_whatever_the_archives(tmp_path):
    images = read_images(pack(tmp_path), "d", "")
    assert isinstance(images, PackedSet)
    assert images.manifest == LABELS
    for row, content in enumerate(CONTENTS):
        assert np.array_equal(np.array(images.image(row)), np.array(Image.open(io.BytesIO(content))))
        assert images.damage(row) == ""


def test_the_file_is_one_that_safetensors_reads(tmp_path):
    with safe_open(pack(tmp_path) / "images.safetensors", framework="np") as file:
        spans, content = file.get_tensor("spans"), file.get_tensor("encoded")
    for (start, end), expected in zip(spans, CONTENTS, strict=True):
        assert content[start:end].tobytes() == expected


def test_equal_content_gives_equal_bytes(tmp_path):
    first, second = pack(tmp_path / "a"), pack(tmp_path / "b")
    for name in ("images.safetensors", "manifest.csv"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_a_changed_byte_is_named_and_no_other_image_suffers(tmp_path):
    path = pack(tmp_path) / "images.safetensors"
    content = bytearray(path.read_bytes())
    content[content.index(CONTENTS[2]) + 20] ^= 1
    path.write_bytes(content)
    images = read_images(tmp_path, "d", "prepare it anew")
    assert [bool(images.damage(row)) for row in range(6)] == [False, False, True, False, False, False]
    with pytest.raises(UserError, match=r"im2.*manifest.*prepare it anew"):
        images.image(2)


@pytest.mark.parametrize("content", [CONTENTS[0][:-40], b"", b"<html>not found</html>"])
def test_an_image_that_cannot_be_decoded_is_not_packed(tmp_path, content):
    contents = [*CONTENTS[:4], content, CONTENTS[5]]
    with pytest.raises(UserError, match="im4 cannot be read as an image"):
        pack(tmp_path, contents)
    assert list(tmp_path.iterdir()) == []


def test_a_truncated_file_and_a_foreign_manifest_are_refused(tmp_path):
    path = pack(tmp_path) / "images.safetensors"
    manifest = tmp_path / "manifest.csv"
    rows = manifest.read_text().splitlines(keepends=True)
    manifest.write_text("".join(rows[:-1]))
    with pytest.raises(UserError, match="does not belong"):
        read_images(tmp_path, "d", "")
    manifest.write_text("".join(rows))
    path.write_bytes(path.read_bytes()[:-16])
    with pytest.raises(UserError, match="damaged"):
        read_images(tmp_path, "d", "")


def test_the_split_has_a_name_that_changes_with_it(tmp_path):
    again = Manifest(LABELS.ids[::-1], LABELS.classes[::-1], LABELS.splits[::-1])
    assert again.digest == LABELS.digest  # neither the order of rows nor that of classes is part of a split
    other = Manifest(LABELS.ids, LABELS.classes, ["test", "train", *LABELS.splits[2:]])
    assert other.digest != LABELS.digest
    assert LABELS.summary() == {"split": LABELS.digest, "train": 3, "test": 3}


def test_all_images_that_cannot_be_decoded_are_named(tmp_path):
    contents = [b"no", *CONTENTS[1:4], CONTENTS[4][:10], CONTENTS[5]]
    with pytest.raises(UserError, match=r"im0 cannot be read.*; im4 cannot be read.*leave them out"):
        pack(tmp_path, contents)
    assert list(tmp_path.iterdir()) == []
