"""Learn the classes in a folder of images, one task after another, and save the result.

    python examples/learn_own_images.py PHOTOS backbones/vit_b16_in21k.safetensors flowers.safetensors

PHOTOS has a folder for each task, with a folder of images for each class: PHOTOS/1_spring/crocus/a.jpg.
"""

import sys
from pathlib import Path

from torchvision.datasets import ImageFolder

from ntkcl import Classifier


def main(photos: str, backbone: str, saved: str) -> None:
    """Learn every task in `photos` and save the classifier to `saved`."""
    model = Classifier(backbone, training={"epochs": 5}, threads=2)
    for folder in sorted(path for path in Path(photos).iterdir() if path.is_dir()):
        task = ImageFolder(folder)
        model.learn(task)
        print(f"{folder.name}: learned {', '.join(task.classes)} from {len(task)} images")
    model.save(saved)
    print(f"{saved} knows {len(model.classes)} classes; try: ntkcl predict {saved} {photos}")


if __name__ == "__main__":
    main(*sys.argv[1:]) if len(sys.argv) == 4 else sys.exit(__doc__)
