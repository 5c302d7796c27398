"""Arguments, labels and datasets that people give to the classifier: taken if they are clear, else refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, Subset
from torchvision.datasets import ImageFolder

from ntkcl import Classifier
from ntkcl.errors import UserError
from tests.helpers.digit_images import BACKBONE, Digits


def failure(call, *arguments, **options) -> str:
    """The message of the error, which is one line."""
    with pytest.raises(UserError) as error:
        call(*arguments, **options)
    return str(error.value)


def test_numbers_of_numpy_and_devices_of_torch_are_taken(tiny):
    model = Classifier(BACKBONE, "simplecil", seed=np.int64(3), threads=np.int32(1), device=torch.device("cpu"))
    model.learn(Digits("01"), classes=np.array(["zero", "one"]))
    model.save("own.safetensors")
    assert Classifier.load("own.safetensors", device="cpu").seed == 3
    assert model.classes == ["zero", "one"]


@pytest.mark.parametrize(
    "given", [{"seed": 1.5}, {"seed": -1}, {"threads": 0}, {"device": "gpu"}, {"device": "mps"}, {"device": None}]
)
def test_arguments_that_cannot_be_used_are_refused_before_anything_is_learned(tiny, given):
    (name, value), *_ = given.items()
    assert failure(Classifier, BACKBONE, "simplecil", **given).startswith(f"{name} is {value!r}")


def gray(label: object, value: int = 90) -> tuple:
    return Image.new("L", (16, 16), value), label


def test_concatenated_folders_keep_their_classes(tiny):
    for name, value in {"sa/x": 10, "sa/y": 80, "sb/z": 150, "sb/w": 220}.items():
        Path(name).mkdir(parents=True)
        for number in range(2):
            Image.new("L", (16, 16), value + number).save(f"{name}/{number}.png")
    model = Classifier(BACKBONE, "simplecil", device="cpu")
    both = ConcatDataset([ImageFolder("sa"), ImageFolder("sb")])
    model.learn(Subset(both, range(len(both))))
    assert model.classes == ["x", "y", "w", "z"]
    unnamed = ConcatDataset([ImageFolder("sa"), [gray(0)]])
    assert "some parts of the dataset have names" in failure(model.learn, unnamed)


@pytest.mark.parametrize(
    "labels", [np.eye(2, dtype=int), torch.eye(2), [[0, 1], [1, 0]], np.array([[0], [1]]), np.array([0, 1])]
)
def test_labels_that_are_clear_are_taken(tiny, labels):
    model = Classifier(BACKBONE, "simplecil", device="cpu")
    model.learn([gray(label, 100 * number) for number, label in enumerate(labels)])
    assert model.classes == ["0", "1"]


@pytest.mark.parametrize("label", [[1, 1], [0.5, 0.5], None, 0.5, np.zeros((2, 2))])
def test_labels_that_are_not_clear_are_refused(tiny, label):
    model = Classifier(BACKBONE, "simplecil", device="cpu")
    assert "give a whole number or a name" in failure(model.learn, [gray(label), gray(1)])


def test_rows_as_mappings_and_streams(tiny):
    model = Classifier(BACKBONE, "simplecil", device="cpu")
    model.learn([dict(zip(("image", "label"), gray(label), strict=True)) for label in ("a", "b")])
    assert model.classes == ["a", "b"]
    assert "has the keys picture, label; give pairs" in failure(model.learn, [{"picture": 1, "label": 0}])
    assert "generator, a stream; give one with a length" in failure(model.learn, (gray(0) for _ in range(2)))


def test_folders_of_a_split_are_no_classes(tiny):
    for name in ("train/a", "test/a"):
        Path("set", name).mkdir(parents=True)
        Image.new("L", (16, 16)).save(f"set/{name}/0.png")
    model = Classifier(BACKBONE, "simplecil", device="cpu")
    assert "the classes are test, train: folders of a split" in failure(model.learn, ImageFolder("set"))
