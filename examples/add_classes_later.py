"""Load what `learn_own_images.py` saved, learn new classes, and recognize old and new ones.

    python examples/add_classes_later.py flowers.safetensors SUMMER image.jpg

SUMMER has a folder of images for each new class. The images of the first classes are not needed any more.
"""

import sys

from torchvision.datasets import ImageFolder

from ntkcl import Classifier


def main(saved: str, new_classes: str, *images: str) -> None:
    """Learn the classes in the folder `new_classes`, save the result, and predict `images`."""
    model = Classifier.load(saved, threads=2)  # finds the backbone in the package or in backbones/; or add backbone=...
    before = len(model.classes)
    model.learn(ImageFolder(new_classes))
    model.save(saved)
    print(f"{saved} knew {before} classes and now knows {len(model.classes)}")
    for image, best in zip(images, model.predict(images, top=3), strict=True):
        print(image, ", ".join(f"{label} {score:.3f}" for label, score in best))


if __name__ == "__main__":
    main(*sys.argv[1:]) if len(sys.argv) > 2 else sys.exit(__doc__)
