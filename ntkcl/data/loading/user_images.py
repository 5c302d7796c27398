"""A user's images: files, PIL images, tensors, and datasets."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from ntkcl.data.prepared.decoding import checked, decode, printable, read_file
from ntkcl.errors import UserError

ImageLike = str | Path | Image.Image | Tensor
"""A path, a PIL image, or a tensor (C, H, W) or (H, W): uint8, or floating point in [0, 1]."""


class LabeledImages(Protocol):
    """Any map-style dataset of torch or torchvision, whose items are pairs of an image and its label."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[ImageLike, int | str]: ...


def to_pil(image: ImageLike, name: str) -> Image.Image:
    """Convert `image` to a PIL image.

    Args:
        image: a user's image.
        name: name for errors, if it is not a file.

    Raises:
        UserError: it cannot be read, or is not an image.
    """
    if isinstance(image, str | Path):
        return decode(read_file(Path(image)), str(image))
    if isinstance(image, Tensor):
        return _of_tensor(image, name)
    if not isinstance(image, Image.Image):
        raise UserError(f"{name} is of type {type(image).__name__}; give a path, a PIL image or a tensor (C, H, W)")
    try:
        image.load()  # opened images are read only now
    except Exception as error:  # Pillow raises anything at damaged files
        raise UserError(f"{name} cannot be read as an image ({printable(error)})") from error
    return checked(image, name)


def _of_tensor(image: Tensor, name: str) -> Image.Image:
    image = image.detach().cpu()
    if not 2 <= image.ndim <= 3 or (image.ndim == 3 and image.shape[0] not in (1, 3)) or 0 in image.shape:
        raise UserError(f"{name} is a tensor {tuple(image.shape)}; give (C, H, W) with one channel or three")
    if image.is_floating_point():
        if not (image.min() >= 0 and image.max() <= 1):  # also where they are nan
            raise UserError(f"{name} has values outside [0, 1]; give images before they are normalized")
        image = (image.float() * 255).round().to(torch.uint8)
    if image.dtype != torch.uint8:
        raise UserError(f"{name} is a tensor of {image.dtype}; give uint8, or floats in [0, 1]")
    return to_pil_image(image)


def item(dataset: LabeledImages, index: int) -> tuple[Image.Image, int | str]:
    """Return image and label `index` of `dataset`.

    Raises:
        UserError: the image cannot be read, or the label is neither a number nor a name.
    """
    name = f"image {index} of the dataset"
    try:
        row = dataset[index]
    except UserError:
        raise
    except Exception as error:  # of the dataset, or of Pillow
        raise UserError(f"{name} cannot be read ({printable(error)}); repair it or leave it out") from error
    image, label = _pair(row, name)
    return to_pil(image, name), _label(label, name)


def _pair(row: Any, name: str) -> tuple[Any, Any]:
    """Image and label of an item: a pair, or a mapping with the keys image and label."""
    if isinstance(row, Mapping):
        if not {"image", "label"} <= row.keys():
            keys = ", ".join(map(str, row))
            raise UserError(f"{name} has the keys {keys}; give pairs of an image and its label, or image and label")
        return row["image"], row["label"]
    if not isinstance(row, tuple | list) or len(row) != 2:
        raise UserError(f"{name} is of type {type(row).__name__}; give pairs of an image and its label")
    return row[0], row[1]


def _label(label: Any, name: str) -> int | str:
    if hasattr(label, "ndim") and hasattr(label, "tolist"):  # of numpy or torch
        label = label.tolist()
    if isinstance(label, list) and len(label) == 1:
        label = label[0]
    if isinstance(label, list) and sorted(label, key=str) == sorted([0] * (len(label) - 1) + [1], key=str):  # one-hot
        label = label.index(1)
    if not isinstance(label, int | str):
        raise UserError(f"the label of {name} is of type {type(label).__name__}; give a whole number or a name")
    return label


def class_per_image(dataset: LabeledImages, names: Sequence[str] | None = None) -> tuple[list[str], list[str]]:
    """Return the class of each image of `dataset`, and all classes in the order of their labels. Reads all images once.

    Args:
        dataset: pairs of an image and its label.
        names: names of the classes 0, 1, ...; by default `dataset.classes`, else the label itself. The parts of a
            concatenated dataset have their own `classes`, and follow each other.

    Raises:
        UserError: there is no image, one cannot be read, or a label has no name.
    """
    if isinstance(dataset, str | Path):
        raise UserError(f"'{dataset}' is a path; give a dataset, such as torchvision's ImageFolder('{dataset}')")
    if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
        raise UserError(
            f"the dataset is of type {type(dataset).__name__}, a stream; give one with a length and an index"
        )
    labels = [item(dataset, index)[1] for index in range(len(dataset))]
    if not labels:
        raise UserError("the dataset has no images; give at least one of each class")
    given = None if names is None else [str(name) for name in names]
    known = [given or _own_names(dataset, index) for index in range(len(labels))]
    lists = list(dict.fromkeys(tuple(each) for each in known))  # in the order of the images
    if len(lists) > 1 and () in lists:
        raise UserError("some parts of the dataset have names of classes and others have none; give `classes`")
    place = {each: number for number, each in enumerate(lists)}
    pairs = {(place[tuple(each)], label) for each, label in zip(known, labels, strict=True)}
    in_order = sorted(pairs, key=lambda pair: (pair[0], isinstance(pair[1], str), pair[1]))
    name_of = {pair: _name(pair[1], lists[pair[0]]) for pair in in_order}
    classes = list(dict.fromkeys(name_of.values()))
    if {"train", "test"} <= {name.lower() for name in classes} <= {"train", "test", "val", "valid"}:
        raise UserError(f"the classes are {', '.join(classes)}: folders of a split; give the folder of one of them")
    return [name_of[place[tuple(each)], label] for each, label in zip(known, labels, strict=True)], classes


def _own_names(dataset: Any, index: int) -> list[str]:
    """The `classes` of `dataset`, or of the part that image `index` comes from; empty if there are none."""
    classes = getattr(dataset, "classes", None)
    if classes is not None and len(classes):
        return [str(name) for name in classes]
    if hasattr(dataset, "cumulative_sizes"):  # torch's ConcatDataset
        part = bisect_right(dataset.cumulative_sizes, index)
        return _own_names(dataset.datasets[part], index - (dataset.cumulative_sizes[part - 1] if part else 0))
    if (inner := getattr(dataset, "dataset", None)) is not None:  # torch's Subset, and others that contain a dataset
        return _own_names(inner, dataset.indices[index] if hasattr(dataset, "indices") else index)
    return []


def _name(label: int | str, names: Sequence[str]) -> str:
    if isinstance(label, str) or not names:
        return str(label)
    if not 0 <= label < len(names):
        raise UserError(f"label {label} has no name among the {len(names)} classes; give `classes` for all labels")
    return names[label]
