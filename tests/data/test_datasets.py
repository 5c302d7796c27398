"""The nine datasets, in small, from the publisher's server to the tasks that a learner meets."""

import os
import pickle
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ntkcl.data.prepared.prepare import load_images, prepare_dataset
from ntkcl.data.sources.cifar100 import Options, make
from ntkcl.data.sources.common.lists import _plain_lists
from ntkcl.errors import UserError
from ntkcl.runs import resolve
from ntkcl.training.parts import stream_of
from tests.helpers.dataset_server import BY_HAND, change, failure, prepared, publish
from tests.helpers.http_server import Behaviour
from tests.helpers.miniatures import MINIATURES, colour, eurosat, picture, python2_pickle, tar, zipped


@pytest.mark.parametrize("name", MINIATURES)
def test_a_dataset_comes_from_its_archive_to_its_tasks(project, server, name):
    miniature = MINIATURES[name]()
    images = prepared(name, miniature, server)
    labels = images.manifest
    assert labels.class_names == miniature.classes
    assert dict(zip(labels.ids, labels.classes, strict=True)) == {i: c for i, (c, _) in miniature.images.items()}
    for image, split in zip(labels.ids, labels.splits, strict=True):
        assert miniature.images[image][1] in ("", split)
    for row, class_name in enumerate(labels.classes):
        color = np.array(images.image(row).convert("RGB"), dtype=float).mean((0, 1))
        assert np.abs(color - colour(class_name)).max() < 8, labels.ids[row]
    assert sorted(file.name for file in Path("data", name).iterdir()) == ["images.safetensors", "manifest.csv"]

    run = resolve(name, "vit_micro", "simplecil", 1)
    stream = stream_of(run)
    order = np.random.RandomState(1).permutation(len(miniature.classes))
    assert stream.classes == [miniature.classes[index] for index in order]
    sizes = Counter(zip(labels.classes, labels.splits, strict=True))
    assert [task.size for task in run.tasks][:2] == list(miniature.tasks)
    for task in run.tasks:
        new = stream.classes[task.first_class : task.classes_learned]
        train = stream.train_images(task, torch.device("cpu"))
        assert Counter(stream.classes[label] for label in train.labels) == {c: sizes[c, "train"] for c in new}
        pixels, _ = next(iter(train.train_batches(4)))
        assert pixels.shape[1:] == (1, 32, 32)
    test = stream.test_images(0, len(stream.classes), torch.device("cpu"))
    assert len(test.labels) == miniature.counts["test"] == len(test.ids)


@pytest.mark.parametrize("name", BY_HAND)
def test_an_archive_that_needs_a_person_says_where_it_is_and_where_to_put_it(project, server, name):
    miniature = MINIATURES[name]()
    publish(name, miniature, server)
    message = failure(name)
    assert "https://" in message
    assert f"downloads/{name}/{next(iter(miniature.files))}" in message


def test_preparing_again_needs_no_network_and_gives_equal_bytes(project, server):
    prepared("oxford_pets", MINIATURES["oxford_pets"](), server)
    before, requests = {file: file.read_bytes() for file in Path("data").glob("*/*")}, len(server.requests)
    prepare_dataset("oxford_pets")
    assert {file: file.read_bytes() for file in Path("data").glob("*/*")} == before
    assert len(server.requests) == requests


def test_cifar_100_is_what_torchvision_reads(project, server):
    miniature = MINIATURES["cifar100"]()
    images = prepared("cifar100", miniature, server)
    archive = Path("downloads/cifar100/cifar-100-python.tar.gz")
    shutil.unpack_archive(archive, "unpacked")  # of our own; Python 3.11.2 knows no filter

    class Theirs(torchvision.datasets.CIFAR100):
        def _check_integrity(self) -> bool:
            return True

        def _load_meta(self) -> None:
            self.classes = pickle.loads(Path("unpacked/cifar-100-python/meta").read_bytes())["fine_label_names"]

    for split in ("train", "test"):
        theirs = Theirs("unpacked", train=split == "train")
        rows = [row for row, own in enumerate(images.manifest.splits) if own == split]
        assert theirs.classes == images.manifest.class_names
        assert [theirs.classes[label] for label in theirs.targets] == [images.manifest.classes[row] for row in rows]
        assert np.array_equal(theirs.data.transpose(0, 3, 1, 2), images.images[rows].numpy())


class Hostile:
    """Runs a command when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("pwned",)


@pytest.mark.parametrize("content", [pickle.dumps(Hostile()), b"", b"junk", python2_pickle({"data": 1})])
def test_a_pickle_that_is_not_cifar_100_is_refused_and_not_run(project, content):
    path = project / "cifar.tar.gz"
    path.write_bytes(tar([(f"cifar-100-python/{name}", content) for name in ("train", "test", "meta")], "gz"))
    with pytest.raises(UserError, match="is not the archive of CIFAR-100"):
        make(Options(), {"cifar.tar.gz": path})
    assert not Path("pwned").exists()


def test_domainnets_classes_stand_in_the_order_of_the_lists_numbers(project, server):
    miniature = MINIATURES["domainnet"]()
    assert miniature.classes != sorted(miniature.classes)
    prepared("domainnet", miniature, server)
    change("domainnet", split={"class_index": "sorted"})
    prepare_dataset("domainnet")
    assert load_images("domainnet").manifest.class_names == sorted(miniature.classes)


@pytest.mark.parametrize(
    ("name", "behaviour"),
    [
        ("eurosat", Behaviour(wrong_byte=True)),
        ("imagenet_r", Behaviour(status=404)),
        ("kvasir", Behaviour(status=403)),
    ],
)
def test_where_the_first_address_fails_the_second_serves(project, server, name, behaviour):
    miniature = MINIATURES[name]()
    file = next(iter(miniature.files))
    server.behaviours[file] = behaviour
    (server.folder / "mirror1").mkdir()
    (server.folder / "mirror1" / file).write_bytes(miniature.files[file])
    images = prepared(name, miniature, server)
    assert set(images.manifest.ids) == set(miniature.images)
    asked = [request.name for request in server.requests if file in request.name]
    assert list(dict.fromkeys(asked)) == [file, f"mirror1/{file}"]


def test_another_root_folder_gives_the_same_split(project, server):
    first = prepared("eurosat", eurosat("2750"), server).manifest
    shutil.rmtree("downloads")
    assert prepared("eurosat", eurosat("EuroSAT_RGB"), server).manifest == first


def test_the_older_archive_of_plantvillage_is_read_too(project, server):
    """It has the images in the deeper folder only."""
    miniature = MINIATURES["plantvillage"]()
    deeper = {f"plantvillage/PlantVillage/{name}": name for name in miniature.images}
    content = zipped((path, picture(name.partition("/")[0])) for path, name in deeper.items())
    older = replace(miniature, files={"plantdisease.zip": content})
    assert prepared("plantvillage", older, server).manifest.ids == sorted(miniature.images)


NAMES = st.text("abcXYZ019_ ./,()+&'-:#!\"%{[]}*?|>@\\", min_size=1, max_size=12)


@given(st.lists(NAMES, min_size=1, max_size=5), st.integers(0, 3))
def test_lists_are_read_as_a_parser_of_yaml_reads_them(names, target):
    text = yaml.safe_dump({"data": [f"data/{name}" for name in names], "targets": [target] * len(names)})
    for written in (text, text.replace("'", "")):
        found = _plain_lists(written)
        if found is not None:
            assert found == {key: [str(value) for value in values] for key, values in yaml.safe_load(written).items()}
