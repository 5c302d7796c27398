"""Fashion-MNIST, a real archive that nobody here wrote: from Debian's files to trained and evaluated runs."""

import gzip
import shutil
from pathlib import Path

import pytest
import torch

from ntkcl.backbones.files import copy_shipped_weights
from ntkcl.data.prepared.prepare import load_images, prepare_dataset
from ntkcl.data.prepared.status import verified
from ntkcl.data.sources.common.options import source_of
from ntkcl.errors import UserError
from ntkcl.runs import resolve
from ntkcl.settings.files import load_dataset
from ntkcl.training.evaluate import evaluate
from ntkcl.training.train import train_task
from tests.helpers.learners import CPU
from tests.helpers.projects import REPOSITORY

DEBIAN = Path("/usr/share/datasets/fashion-mnist")


@pytest.fixture
def repository_settings(project):
    """A project with the settings of the repository."""
    shutil.rmtree("params", ignore_errors=True)
    shutil.copytree(REPOSITORY / "params", "params")
    return project


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="needs Debian's package dataset-fashion-mnist")
@pytest.mark.slow
def test_the_real_images_go_the_whole_way(repository_settings, capsys):
    """Prepared and verified all 70,000; trained on one image in 200 of each class; tested on all 10,000."""
    Path("downloads").mkdir(exist_ok=True)
    Path("downloads/fashion_mnist").symlink_to(DEBIAN)
    prepare_dataset("fashion_mnist")
    assert verified("fashion_mnist", 1)
    assert "fashion_mnist: 70000 images read, 0 damaged" in capsys.readouterr().out
    images = load_images("fashion_mnist")
    assert images.images.shape == (70000, 1, 28, 28)
    assert {images.manifest.classes.count(name) for name in images.manifest.class_names} == {7000}
    assert images.manifest.splits.count("train") == 60000
    assert images.images[0].float().mean() == pytest.approx(76247 / 784)  # of an ankle boot
    assert images.manifest.classes[0] == "Ankle boot"
    copy_shipped_weights("vit_micro")
    accuracy = {}
    for variant in ("simplecil/train_fraction_0.005", "ntk_cl/epochs_1-first_epochs_4-train_fraction_0.005"):
        run = resolve("fashion_mnist", "vit_micro", variant, 0)
        assert [task.size for task in run.tasks] == [2] * 5
        for task in run.tasks:
            train_task(run, task.index, CPU)
        accuracy[variant] = evaluate(run, CPU)["metrics"]["final_accuracy"]
    assert min(accuracy.values()) > 50  # one in ten by chance


def idx(shape: tuple[int, ...], kind: int = 8) -> bytes:
    """An IDX file of zeros."""
    count = torch.Size(shape).numel()
    return bytes([0, 0, kind, len(shape)]) + b"".join(n.to_bytes(4, "big") for n in shape) + bytes(count)


@pytest.mark.parametrize(
    "images,labels,message",
    [
        (idx((3, 28, 28))[:-1], idx((3,)), "is not an IDX file of bytes in 3 dimensions"),
        (idx((3, 28, 28), kind=13), idx((3,)), "is not an IDX file of bytes in 3 dimensions"),
        (idx((3, 784)), idx((3,)), "is not an IDX file of bytes in 3 dimensions"),
        (b"", idx((3,)), "is not an IDX file of bytes in 3 dimensions"),
        (idx((3, 28, 28)), idx((2,)), "labels of train do not fit its images"),
        (idx((3, 28, 28)), idx((3,))[:-1] + b"\x0a", "labels of train do not fit its images and 10 class names"),
        (None, idx((3,)), "is not a whole gzip file"),
    ],
)
def test_files_that_are_not_idx_are_one_line(repository_settings, images, labels, message):
    source = load_dataset("fashion_mnist")
    make, options = (getattr(source_of(source), name) for name in ("make", "options"))
    Path("files").mkdir()
    contents = {"train-images": images, "train-labels": labels, "t10k-images": images, "t10k-labels": labels}
    files = {}
    for name, content in contents.items():
        files[name] = Path("files", name)
        files[name].write_bytes(b"no gzip" if content is None else gzip.compress(content))
    with pytest.raises(UserError, match=message):
        make(options(class_names=source.options["class_names"]), files)
