"""A user's images: files, PIL images, tensors, and datasets."""

from collections.abc import Iterator, Sequence
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
        image, label = dataset[index]
    except UserError:
        raise
    except Exception as error:  # of the dataset, or of Pillow
        raise UserError(f"{name} cannot be read ({' '.join(str(error).split())}); repair it or leave it out") from error
    label = label.item() if hasattr(label, "item") else label
    if not isinstance(label, int | str):
        raise UserError(f"the label of {name} is of type {type(label).__name__}; give a whole number or a name")
    return to_pil(image, name), label


def class_per_image(dataset: LabeledImages, names: Sequence[str] | None = None) -> tuple[list[str], list[str]]:
    """Return the class of each image of `dataset`, and all classes in the order of their labels. Reads all images once.

    Args:
        dataset: pairs of an image and its label.
        names: names of the classes 0, 1, ...; by default `dataset.classes`, else the label itself.

    Raises:
        UserError: there is no image, one cannot be read, or a label has no name.
    """
    if isinstance(dataset, str | Path):
        raise UserError(f"'{dataset}' is a path; give a dataset, such as torchvision's ImageFolder('{dataset}')")
    labels = [item(dataset, index)[1] for index in range(len(dataset))]
    if not labels:
        raise UserError("the dataset has no images; give at least one of each class")
    names = names or next(_own_names(dataset), None)
    in_order = sorted(set(labels), key=lambda label: (isinstance(label, str), label))
    name_of = {label: _name(label, names) for label in in_order}
    return [name_of[label] for label in labels], list(dict.fromkeys(name_of.values()))


def _own_names(dataset: Any) -> Iterator[Sequence[str]]:
    """Yield the `classes` of `dataset`, or of the dataset that it is a subset of."""
    while dataset is not None:
        if classes := getattr(dataset, "classes", None):
            yield classes
        dataset = getattr(dataset, "dataset", None)


def _name(label: int | str, names: Sequence[str] | None) -> str:
    if isinstance(label, str) or not names:
        return str(label)
    if not 0 <= label < len(names):
        raise UserError(f"label {label} has no name among the {len(names)} classes; give `classes` for all labels")
    return str(names[label])
