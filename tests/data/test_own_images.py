"""Datasets of the user: a folder of folders, and a table; and many kinds of image files."""

import io
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from ntkcl.data.prepared.decoding import picture_of
from ntkcl.data.prepared.packed import PackedSet
from ntkcl.data.prepared.prepare import load_images, prepare_dataset
from ntkcl.errors import UserError
from tests.helpers.miniatures import picture
from tests.helpers.projects import clear_settings


def write(source: str, classes: int = 2, **options: object) -> None:
    """Settings of the dataset "own"."""
    content = {"label": "Own", "source": source, "options": options}
    content |= {"classes": classes, "first_task_classes": 1, "classes_per_task": 1}
    Path("params/datasets/own.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    clear_settings()


def put(names: list[str], root: str = "mine") -> None:
    """Images with the given names; the folder above is the class."""
    for name in names:
        path = Path(root, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(path.parent.name))


def prepared(source: str, **options: object) -> PackedSet:
    """The dataset "own"."""
    write(source, **options)
    prepare_dataset("own")
    return load_images("own")


def splits(images: PackedSet) -> dict[str, str]:
    """The split of each image."""
    return dict(zip(images.manifest.ids, images.manifest.splits, strict=True))


def failure(source: str, **options: object) -> str:
    """The message of the error, which is one line."""
    write(source, **options)
    with pytest.raises(UserError) as error:
        prepare_dataset("own")
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_folder_of_classes_is_split_by_seed(project):
    names = [f"{c}/{n}.jpg" for c in ("cat", "dog") for n in range(10)]
    put([*names, "cat/.hidden.jpg", ".trash/1.jpg", "dog/deep/er.PNG"])
    Path("mine/cat/notes.txt").write_text("no image", encoding="utf-8")
    images = prepared("folder", path="mine")
    assert images.manifest.ids == sorted([*names, "dog/deep/er.PNG"])
    assert images.manifest.class_names == ["cat", "dog"]
    assert images.manifest.splits.count("test") == 4
    half = prepared("folder", path="mine", split={"kind": "stratified", "test_fraction": 0.5})
    assert half.manifest.splits.count("test") == 5 + 6


@pytest.mark.parametrize("test", ["test", "val"])
def test_a_folder_with_train_and_test_is_split_by_them(project, test):
    names = [f"{split}/{c}/{n}.jpg" for split in ("train", test) for c in ("cat", "dog") for n in range(2)]
    put(names)
    images = prepared("folder", path="mine")
    assert splits(images) == {name: "train" if name.startswith("train") else "test" for name in names}
    assert images.manifest.class_names == ["cat", "dog"]


def test_a_pattern_says_what_the_folders_mean(project):
    put([f"{c}/{split}/{n}.jpg" for split in ("train", "test") for c in ("cat", "dog") for n in range(2)])
    pattern = "(?P<image>(?P<class>[^/]+)/(?P<split>[^/]+)/[^/]+)"
    images = prepared("folder", path="mine", pattern=pattern, split={"kind": "folders"})
    assert splits(images)["dog/test/1.jpg"] == "test"
    put(["cat/valid/0.jpg"])
    message = failure("folder", path="mine", pattern=pattern, split={"kind": "folders"})
    assert "mine/cat/valid/0.jpg: the split is 'valid'; valid: train, test" in message


def test_links_count_when_they_stay_inside(project):
    put([f"{c}/{n}.jpg" for c in ("cat", "dog") for n in range(2)])
    put([".store/9.jpg"])
    Path("mine/cat/link.jpg").symlink_to("../.store/9.jpg")
    assert len(prepared("folder", path="mine").manifest) == 5
    put(["cat/secret.jpg"], "elsewhere")
    Path("mine/cat/out.jpg").symlink_to(Path("elsewhere/cat/secret.jpg").absolute())
    assert "mine/cat/out.jpg is a link that leaves mine" in failure("folder", path="mine")
    Path("mine/cat/out.jpg").unlink()
    Path("mine/bird").symlink_to(Path("elsewhere/cat").absolute())
    assert "mine/bird is a link to a folder" in failure("folder", path="mine")


def test_an_image_that_is_linked_cannot_be_in_both_splits(project):
    put([f"{split}/{c}/0.jpg" for split in ("train", "test") for c in ("cat", "dog")])
    Path("mine/test/cat/1.jpg").symlink_to("../../train/cat/0.jpg")
    assert "mine/test/cat/1.jpg and mine/train/cat/0.jpg are the same file" in failure("folder", path="mine")


def test_folders_without_what_is_needed_say_so(project):
    assert "there is no folder mine" in failure("folder", path="mine")
    Path("mine/cat").mkdir(parents=True)
    assert "no image in mine matches" in failure("folder", path="mine")
    put(["cat/0.jpg", "cat/1.jpg", "dog/0.jpg"])
    assert "class 'dog' has the single image 'dog/0.jpg'" in failure("folder", path="mine")
    put(["train/cat/0.jpg", "test/cat/0.jpg", "train/dog/0.jpg"], "halves")
    assert "class 'dog' has no test image" in failure("folder", path="halves")


def table(text: str) -> None:
    """A table next to the images."""
    Path("mine").mkdir(exist_ok=True)
    Path("mine/table.csv").write_text(text, encoding="utf-8")


def test_a_table_says_class_and_split(project):
    put([f"{c}/{n}.jpg" for c in ("cat", "dog") for n in range(2)])
    table(
        "\ufefflabel,path,split\nfelis,cat/0.jpg,train\nfelis,cat/1.jpg,test\n"
        "canis,dog/1.jpg,train\ncanis,dog/0.jpg,test\n"
    )
    images = prepared("table", csv="mine/table.csv")
    assert splits(images) == {"cat/0.jpg": "train", "cat/1.jpg": "test", "dog/1.jpg": "train", "dog/0.jpg": "test"}
    assert images.manifest.class_names == ["canis", "felis"]


def test_a_table_without_a_split_is_split_as_a_folder_is(project):
    names = [f"{c}/{n}.jpg" for c in ("cat", "dog") for n in range(10)]
    put(names)
    table("path,label\n" + "".join(f"{name},{name[:3]}\n" for name in reversed(names)))
    from_table = splits(prepared("table", csv="mine/table.csv"))
    assert from_table == splits(prepared("folder", path="mine"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("path,label\ncat/0.jpg,cat\ncat/7.jpg,cat\n", "line 3: there is no image mine/cat/7.jpg"),
        ("path,label\ncat/0.jpg,cat\ncat/0.jpg,cat\n", "line 3: 'cat/0.jpg' is the image of line 2 already"),
        (
            "path,label,split\ncat/0.jpg,cat,train\n./cat/0.jpg,cat,test\n",
            "line 3: './cat/0.jpg' is the image of line 2",
        ),
        (
            "path,label\ncat/0.jpg,cat\ncat/1.jpg,cat\ncat/../cat/1.jpg,cat\n",
            "line 4: 'cat/../cat/1.jpg' is the image of",
        ),
        (
            "path,label,split\ncat/0.jpg,cat,train\ncat/1.jpg,cat,val\n",
            "line 3: the split is 'val'; valid: train, test",
        ),
        ("file,class\ncat/0.jpg,cat\n", "the columns must be path, label and, if wanted, split, not file, class"),
        ("path,label\ncat/0.jpg\n", "line 2: a value is missing"),
        ("path,label\ncat/0.jpg,cat,train\n", "line 2: a value is missing or too many"),
        ("path,label\n\ncat/0.jpg,\n", "line 3: a value is missing"),
        ("path,label\n", "names no image"),
        ("", "the columns must be"),
    ],
)
def test_a_wrong_table_says_which_line(project, text, expected):
    put(["cat/0.jpg", "cat/1.jpg"])
    table(text)
    assert expected in failure("table", csv="mine/table.csv")


def test_a_missing_table_says_so(project):
    assert "there is no table nowhere.csv" in failure("table", csv="nowhere.csv")


def gradient() -> np.ndarray:
    """Grey values that rise to the right, (16, 24)."""
    return np.tile(np.linspace(0, 255, 24), (16, 1)).round().astype(np.uint8)


def encoded(mode: str) -> tuple[str, bytes]:
    """The gradient in a file of this mode, and the file's ending."""
    kind = {"CMYK": "jpeg", "L": "jpeg", "I;16": "png", "RGBA": "png", "P": "gif", "1": "png", "LA": "png"}[mode]
    picture = Image.fromarray(gradient())
    if mode == "I;16":
        picture = Image.fromarray(gradient().astype(np.uint16) * 257)
    elif mode == "CMYK":
        picture = picture.convert("RGB").convert("CMYK")
    else:
        picture = picture.convert(mode)
    file = io.BytesIO()
    picture.save(file, kind)
    return kind, file.getvalue()


@pytest.mark.parametrize("mode", ["L", "CMYK", "I;16", "RGBA", "P", "LA"])
def test_whatever_the_file_a_learner_sees_the_same_colours(project, mode):
    put([f"{c}/{n}.jpg" for c in ("cat", "dog") for n in range(2)])
    kind, content = encoded(mode)
    Path(f"mine/cat/odd.{kind}").write_bytes(content)
    images = prepared("folder", path="mine")
    image = picture_of(images.image(images.manifest.ids.index(f"cat/odd.{kind}")), 3)
    assert (image.mode, image.size) == ("RGB", (24, 16))
    assert np.abs(np.array(image, dtype=int) - gradient()[:, :, None]).max() <= 6


def rotated() -> bytes:
    """A JPEG that is rotated by its EXIF data: upright it is dark on the left."""
    picture = Image.fromarray(gradient()).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # the first row is the right side
    file = io.BytesIO()
    picture.save(file, "JPEG", exif=exif)
    return file.getvalue()


def test_photographs_are_turned_as_they_say_unless_the_settings_say_otherwise(project):
    put([f"{c}/{n}.jpg" for c in ("cat", "dog") for n in range(2)])
    Path("mine/cat/0.jpg").write_bytes(rotated())
    image = prepared("folder", path="mine").image(0)
    upright = np.array(picture_of(image, 1), dtype=int)
    assert upright.shape == (16, 24)
    assert np.abs(upright - gradient()).max() <= 6
    assert picture_of(image, 1, exif_rotation=False).size == (16, 24)
