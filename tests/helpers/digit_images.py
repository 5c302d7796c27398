"""Images of the tiny project's digits, as users have them: a dataset of PyTorch, a folder of files."""

from collections.abc import Callable
from pathlib import Path

from PIL import Image

from ntkcl.data.prepared.prepare import load_images

BACKBONE = "backbones/vit_tiny.safetensors"


class Digits:
    """Images of some digits with their labels; `change` is applied to each image."""

    def __init__(
        self,
        digits: str,
        each: int = 12,
        change: Callable[[Image.Image], object] = lambda image: image,
        classes: list[str] | None = None,
    ) -> None:
        images = load_images("digits")
        rows = [row for row, name in enumerate(images.manifest.classes) if name in digits]
        chosen = [row for digit in digits for row in [r for r in rows if images.manifest.classes[r] == digit][:each]]
        self.items = [(change(images.image(row)), digits.index(images.manifest.classes[row])) for row in chosen]
        self.classes = list(digits) if classes is None else classes

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int):
        return self.items[index]


def write_folder(folder: Path, digits: str, each: int = 4) -> Path:
    """The digits as image files, in a folder for each."""
    for index, (image, label) in enumerate(Digits(digits, each).items):
        path = folder / f"digit{digits[label]}" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    return folder
