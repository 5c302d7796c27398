"""The datasets' archives in small: layout, names, formats and oddities of the real ones, with a few tiny images.

Every image shows the colour of its class, so that a test sees whether image and label belong together.
"""

import hashlib
import io
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from tests.helpers.projects import REPOSITORY

TRAIN, TEST = 4, 2  # images of a class where the split is published
ALL = 10  # images of a class where the split is sampled
JUNK = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X"  # how AppleDouble files begin


@dataclass(frozen=True)
class Miniature:
    """A dataset in small.

    Args:
        files: what is downloaded, by name.
        classes: in the dataset's own order.
        images: the class and, where it is published, the split of each image that belongs to the dataset.
        tasks: classes of the first and of each later task.
    """

    files: dict[str, bytes]
    classes: list[str]
    images: dict[str, tuple[str, str]]
    tasks: tuple[int, int]

    @property
    def counts(self) -> dict[str, int]:
        """The number of training and test images."""
        splits = [split for _, split in self.images.values()]
        classes = splits.count("") // ALL  # of a sampled split
        return {"train": splits.count("train") + 8 * classes, "test": splits.count("test") + 2 * classes}

    def adapt(self, name: str, url: Callable[[str], str]) -> None:
        """Write `params/datasets/NAME.yaml`: the real one with this miniature's addresses, checksums and numbers.

        A file has as many addresses as the real one; what `url` is asked for is FILE, then mirror1/FILE and so on.
        """
        content = yaml.safe_load((REPOSITORY / f"params/datasets/{name}.yaml").read_text(encoding="utf-8"))
        assert set(content["files"]) == set(self.files)
        for file, settings in content["files"].items():
            own = facts(self.files[file])
            settings |= {key: own[key] for key in own.keys() & settings.keys()}
            if "urls" in settings:
                settings["urls"] = [url(f"mirror{n}/{file}" if n else file) for n in range(len(settings["urls"]))]
        content |= {"classes": len(self.classes), "counts": self.counts}
        content["first_task_classes"], content["classes_per_task"] = self.tasks
        Path(f"params/datasets/{name}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")


def facts(content: bytes) -> dict[str, Any]:
    """Size and checksums of a file, as the settings call them."""
    return {
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "md5": hashlib.md5(content).hexdigest(),
        "git_blob": hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest(),
    }


def colour(class_name: str) -> tuple[int, int, int]:
    """The colour of a class."""
    return tuple(hashlib.sha256(class_name.encode()).digest()[:3])


def picture(class_name: str, number: int = 0, kind: str = "JPEG", mode: str = "RGB") -> bytes:
    """An encoded image in the colour of the class, of another size for each number."""
    file = io.BytesIO()
    Image.new("RGB", (20 + number, 24), colour(class_name)).convert(mode).save(file, kind)
    return file.getvalue()


def tar(members: Iterable[tuple[str, bytes]], kind: str = "") -> bytes:
    """A tar file, compressed if `kind` is "gz", with folders as members of their own."""
    file, folders = io.BytesIO(), set()
    with tarfile.open(fileobj=file, mode=f"w:{kind}") as archive:
        for name, content in members:
            parent = str(Path(name).parent)
            if parent not in folders:
                folders.add(parent)
                info = tarfile.TarInfo(parent)
                info.type, info.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(info)
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def zipped(members: Iterable[tuple[str, bytes]]) -> bytes:
    """A zip file."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return file.getvalue()


def cifar100(count: int = 6, train: int = TRAIN, test: int = TEST) -> Miniature:
    """A tar.gz with pickles of Python 2: `count` classes, each with so many training and test images."""
    classes = ["apple", "aquarium_fish", "baby", "bear", "beaver", "bed"][:count]
    images, members = {}, [("cifar-100-python/file.txt~", b"")]
    for split, copies in (("train", train), ("test", test)):
        labels = [label for _ in range(copies) for label in (3, 0, 5, 1, 4, 2) if label < count]
        rows = [np.repeat(np.array(colour(classes[label]), np.uint8), 32 * 32) for label in labels]
        images |= {f"{split}/{n:05d}": (classes[label], split) for n, label in enumerate(labels)}
        content = {
            "filenames": [f"{classes[label]}_s_{n:06d}.png" for n, label in enumerate(labels)],
            "batch_label": f"{split}ing batch 1 of 1",
            "fine_labels": labels,
            "coarse_labels": [label // 2 for label in labels],
            "data": np.stack(rows),
        }
        members.append((f"cifar-100-python/{split}", python2_pickle(content)))
    meta = {"fine_label_names": classes, "coarse_label_names": ["fruit", "fish", "people"]}
    members.insert(2, ("cifar-100-python/meta", python2_pickle(meta)))
    return Miniature({"cifar-100-python.tar.gz": tar(members, "gz")}, classes, images, (2, 2))


def imagenet_r() -> Miniature:
    """A tar, and lists whose targets are not in the order of the folders."""
    classes = ["n01443537", "n01484850", "n01494475", "n02128757", "n02165456", "n03594945"]
    names = ["art_0", "cartoon_3", "sculpture_4", "misc_113", "toy_7", "graffiti_1"]
    images = {f"{c}/{name}.jpg": (c, "train" if n < TRAIN else "test") for c in classes for n, name in enumerate(names)}
    members = [("imagenet-r/README.txt", b"ImageNet-R\n"), *pictures("imagenet-r/", images)]
    lists = coda_lists("imagenet-r", "data/imagenet-r/", images, classes[::-1])
    return Miniature({"imagenet-r.tar": tar(members)} | lists, classes, images, (2, 2))


def imagenet_a() -> Miniature:
    """A tar with file names of several words."""
    classes = ["n01498041", "n01531178", "n01534433", "n01558993"]
    images = {f"{c}/0.00{n}116_fox squirrel _ hen_0.86.jpg": (c, "") for c in classes for n in range(ALL)}
    members = [("imagenet-a/README.txt", b"ImageNet-A\n"), *pictures("imagenet-a/", images)]
    return Miniature({"imagenet-a.tar": tar(members)}, classes, images, (2, 2))


def domainnet() -> Miniature:
    """Five zips with the same classes, each with an image that no list names."""
    classes = ["zebra", "aircraft_carrier", "The_Eiffel_Tower", "t-shirt", "axe", "sea_turtle"]
    files, images = {}, {}
    for number, domain in enumerate(["clipart", "infograph", "painting", "real", "sketch"]):
        own = {
            f"{domain}/{c}/{domain}_{classes.index(c):03d}_{n:06d}.jpg": (c, "train" if n else "test")
            for c in classes
            for n in range(3)
        }
        extra = [(f"{domain}/axe/{domain}_unlisted.jpg", picture("axe", number))]
        files[f"{domain}.zip"] = zipped([*pictures("", own), *extra])
        images |= own
    lists = coda_lists("domainnet", "data/DomainNet/", images, classes)
    return Miniature(files | lists, classes, images, (3, 3))


def oxford_pets() -> Miniature:
    """Two tar.gz: images with other files among them, some of another format than their name says; lists elsewhere."""
    classes = ["Abyssinian", "Egyptian_Mau", "american_pit_bull_terrier", "beagle", "boxer"]
    names = {f"{c}_{n + 1}": (c, "train" if n < TRAIN else "test") for c in classes for n in range(TRAIN + TEST)}
    images = {f"{name}.jpg": of for name, of in names.items()}
    others = {"Abyssinian_1.jpg": ("GIF", "P"), "beagle_2.jpg": ("JPEG", "CMYK"), "boxer_3.jpg": ("PNG", "RGBA")}
    members = [(f"images/{name}", picture(c, 0, *others.get(name, ()))) for name, (c, _) in images.items()]
    members += [("images/Abyssinian_100.mat", b"MATLAB 5.0"), ("images/._beagle_1.jpg", JUNK)]
    lists = {
        split: "".join(f"{name} {classes.index(c) + 1} 1 1\n" for name, (c, s) in names.items() if s == split)
        for split in ("train", "test")
    }
    head = "#Image CLASS-ID SPECIES BREED ID\n#ID: 1:37 Class ids\n"
    annotations = [
        ("annotations/README", b"Oxford-IIIT Pet\n"),
        ("annotations/._trainval.txt", JUNK),
        ("annotations/trainval.txt", (head + lists["train"]).encode()),
        ("annotations/test.txt", lists["test"].encode()),
        ("annotations/trimaps/beagle_1.png", picture("beagle", 0, "PNG", "L")),
    ]
    files = {"images.tar.gz": tar(members, "gz"), "annotations.tar.gz": tar(annotations, "gz")}
    return Miniature(files, classes, images, (1, 2))


def eurosat(root: str = "2750") -> Miniature:
    """A zip whose only folder has an odd name."""
    classes = ["AnnualCrop", "Forest", "HerbaceousVegetation", "River"]
    images = {f"{c}/{c}_{n + 1}.jpg": (c, "") for c in classes for n in range(ALL)}
    return Miniature({"EuroSAT.zip": zipped(pictures(f"{root}/", images))}, classes, images, (2, 2))


def plantvillage() -> Miniature:
    """A zip that has everything twice."""
    classes = ["Pepper__bell___healthy", "Potato___Early_blight", "Tomato_Leaf_Mold"]
    endings = ["JPG", "jpg", "png", "jpeg"]
    images = {f"{c}/{n}d6b7-d47c___JR_B.Spot 89{n}.{endings[n % 4]}": (c, "") for c in classes for n in range(ALL)}
    members = [*pictures("PlantVillage/", images), *pictures("plantvillage/PlantVillage/", images)]
    members += [*pictures("PlantVillage/PlantVillage/", images), ("PlantVillage/Tomato_Leaf_Mold/svn-r6Yb5c", b"x")]
    return Miniature({"plantdisease.zip": zipped(members)}, classes, images, (1, 1))


def plantvillage_mendeley() -> Miniature:
    """A zip with plants that are not wanted."""
    classes = ["Pepper,_bell___healthy", "Potato___Early_blight", "Tomato___Leaf_Mold"]
    images = {f"{c}/image ({n + 1}).JPG": (c, "") for c in classes for n in range(ALL)}
    others = {f"{c}/image (1).JPG": (c, "") for c in ("Apple___healthy", "Background_without_leaves")}
    root = "Plant_leave_diseases_dataset_without_augmentation/"
    members = [*pictures(root, images), *pictures(root, others)]
    name = "Plant_leaf_diseases_dataset_without_augmentation.zip"
    return Miniature({name: zipped(members)}, classes, images, (1, 1))


def vtab() -> Miniature:
    """A zip that a Mac wrote, with folders for the split."""
    classes = ["10", "11", "20", "21"]
    images = {
        f"{split}/{c}/{c}_{n}.jpg": (c, split)
        for split, count in (("train", TRAIN), ("test", TEST))
        for c in classes
        for n in range(count)
    }
    junk = [("vtab-cil/vtab/.DS_Store", b"Bud1"), ("__MACOSX/vtab-cil/vtab/train/10/._10_0.jpg", JUNK)]
    return Miniature(
        {"vtab-cil.zip": zipped([*junk, *pictures("vtab-cil/vtab/", images)])}, sorted(classes), images, (2, 2)
    )


def kvasir() -> Miniature:
    """A zip with names that say nothing."""
    classes = ["dyed-lifted-polyps", "esophagitis", "normal-z-line", "polyps"]
    images = {f"{c}/{hashlib.md5(f'{c}{n}'.encode()).hexdigest()}.jpg": (c, "") for c in classes for n in range(ALL)}
    return Miniature({"kvasir-dataset-v2.zip": zipped(pictures("kvasir-dataset-v2/", images))}, classes, images, (2, 2))


def pictures(root: str, images: dict[str, tuple[str, str]]) -> list[tuple[str, bytes]]:
    """Members of an archive: each image in the colour of its class and the format of its name."""
    return [
        (root + name, picture(c, n % 7, "PNG" if name.endswith("png") else "JPEG"))
        for n, (name, (c, _)) in enumerate(images.items())
    ]


def coda_lists(name: str, root: str, images: dict[str, tuple[str, str]], targets: list[str]) -> dict[str, bytes]:
    """The two YAML files of CODA-Prompt; `targets` are the classes in the order of the labels."""
    files = {}
    for split in ("train", "test"):
        chosen = sorted((image for image, (_, s) in images.items() if s == split), key=lambda image: image[::-1])
        content = {"data": [root + image for image in chosen], "targets": [targets.index(images[i][0]) for i in chosen]}
        files[f"{name}_{split}.yaml"] = yaml.safe_dump(content).encode()
    return files


def python2_pickle(content: Any) -> bytes:
    """`content` pickled as Python 2 did with protocol 2 and the numpy of its time: all texts are strings of bytes."""
    file = io.BytesIO()
    _Python2Pickler(file, protocol=2).dump(content)
    return file.getvalue().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")


class _Python2Pickler(pickle._Pickler):
    dispatch = dict(pickle._Pickler.dispatch)  # noqa: RUF012

    def save_text(self, text: str | bytes) -> None:
        encoded = text if isinstance(text, bytes) else text.encode("latin1")
        self.write(pickle.BINSTRING + struct.pack("<i", len(encoded)) + encoded)
        self.memoize(text)

    dispatch[str] = dispatch[bytes] = save_text


MINIATURES: dict[str, Callable[[], Miniature]] = {
    "cifar100": cifar100,
    "imagenet_r": imagenet_r,
    "imagenet_a": imagenet_a,
    "domainnet": domainnet,
    "oxford_pets": oxford_pets,
    "eurosat": eurosat,
    "plantvillage": plantvillage,
    "plantvillage_mendeley": plantvillage_mendeley,
    "vtab": vtab,
    "kvasir": kvasir,
}
