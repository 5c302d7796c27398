"""The nine datasets, in small, from the publisher's server to the tasks that a learner meets."""

import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
import yaml

from ntkcl import data
from ntkcl.config import dataset_digest, load_dataset, resolve
from ntkcl.data.images import ImageSet, PackedSet
from ntkcl.data.sources.cifar100 import Options, make
from ntkcl.data.stream import TaskStream
from ntkcl.errors import UserError
from tests.conftest import clear_settings
from tests.miniatures import MINIATURES, Miniature, coda_lists, colour, eurosat, picture, python2_pickle, tar, zipped
from tests.server import Behaviour, FileServer

BY_HAND = ["plantvillage", "vtab"]


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory):
    """A server of what publishers have."""
    with FileServer(tmp_path_factory.mktemp("publisher")) as server:
        yield server


def publish(name: str, miniature: Miniature, server: FileServer) -> None:
    """Put the archives on the server, and the settings that lead there into the project."""
    for file, content in miniature.files.items():
        (server.folder / file).write_bytes(content)
    miniature.adapt(name, server.url)
    clear_settings()


def change(name: str, **settings: object) -> None:
    """Set options of the dataset `name`; `split` is laid over the one that is there."""
    path = Path(f"params/datasets/{name}.yaml")
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    for key, value in settings.items():
        old = content["options"].get(key)
        content["options"][key] = old | value if isinstance(old, dict) and key == "split" else value
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    clear_settings()


def count(name: str, **counts: int) -> None:
    """Set the expected counts of the dataset `name`."""
    path = Path(f"params/datasets/{name}.yaml")
    content = yaml.safe_load(path.read_text(encoding="utf-8")) | {"counts": counts}
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    clear_settings()


def prepared(name: str, miniature: Miniature, server: FileServer) -> ImageSet | PackedSet:
    """The dataset as it is when archives have been fetched, by hand where they must be."""
    publish(name, miniature, server)
    if name in BY_HAND:
        shutil.copytree(server.folder, f"downloads/{name}")
    data.prepare(name)
    return data.load(name)


def failure(name: str) -> str:
    """The message of the error on preparing, which is one line; nothing is left under a final name."""
    with pytest.raises(UserError) as error:
        data.prepare(name)
    assert not [*Path("data").glob("*/*")]
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("name", MINIATURES)
def test_a_dataset_comes_from_its_archive_to_its_tasks(project, server, name):
    miniature = MINIATURES[name]()
    images = prepared(name, miniature, server)
    labels = images.labels
    assert labels.class_names == miniature.classes
    assert dict(zip(labels.ids, labels.classes, strict=True)) == {i: c for i, (c, _) in miniature.images.items()}
    for image, split in zip(labels.ids, labels.splits, strict=True):
        assert miniature.images[image][1] in ("", split)
    for row, class_name in enumerate(labels.classes):
        seen = np.array(images.image(row).convert("RGB"), dtype=float).mean((0, 1))
        assert np.abs(seen - colour(class_name)).max() < 8, labels.ids[row]
    assert sorted(file.name for file in Path("data", name).iterdir()) == ["images.safetensors", "manifest.csv"]

    run = resolve(name, "vit_micro", "simplecil", 1)
    stream = TaskStream.of(run)
    order = np.random.RandomState(1).permutation(len(miniature.classes))
    assert stream.classes == [miniature.classes[index] for index in order]
    sizes = Counter(zip(labels.classes, labels.splits, strict=True))
    assert [task.size for task in run.tasks][:2] == list(miniature.tasks)
    for task in run.tasks:
        new = stream.classes[task.first_class : task.classes_seen]
        train = stream.train_images(task, torch.device("cpu"))
        assert Counter(stream.classes[label] for label in train.labels) == {c: sizes[c, "train"] for c in new}
        pixels, _ = next(iter(train.epoch(4)))
        assert pixels.shape[1:] == (1, 32, 32)
    test = stream.test_images(len(stream.classes), torch.device("cpu"))
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
    data.prepare("oxford_pets")
    assert {file: file.read_bytes() for file in Path("data").glob("*/*")} == before
    assert len(server.requests) == requests


def test_cifar_100_is_what_torchvision_reads(project, server):
    miniature = MINIATURES["cifar100"]()
    images = prepared("cifar100", miniature, server)
    archive = Path("downloads/cifar100/cifar-100-python.tar.gz")
    shutil.unpack_archive(archive, "unpacked", filter="data")

    class Theirs(torchvision.datasets.CIFAR100):
        def _check_integrity(self) -> bool:
            return True

        def _load_meta(self) -> None:
            self.classes = pickle.loads(Path("unpacked/cifar-100-python/meta").read_bytes())["fine_label_names"]

    for split in ("train", "test"):
        theirs = Theirs("unpacked", train=split == "train")
        rows = [row for row, own in enumerate(images.labels.splits) if own == split]
        assert theirs.classes == images.labels.class_names
        assert [theirs.classes[label] for label in theirs.targets] == [images.labels.classes[row] for row in rows]
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
    data.prepare("domainnet")
    assert data.load("domainnet").labels.class_names == sorted(miniature.classes)


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
    assert set(images.labels.ids) == set(miniature.images)
    asked = [request.name for request in server.requests if file in request.name]
    assert list(dict.fromkeys(asked)) == [file, f"mirror1/{file}"]


def test_another_root_folder_gives_the_same_split(project, server):
    first = prepared("eurosat", eurosat("2750"), server).labels
    shutil.rmtree("downloads")
    assert prepared("eurosat", eurosat("EuroSAT_RGB"), server).labels == first


def test_lists_that_do_not_fit_the_archive_are_errors_that_name_an_image(project, server):
    good = MINIATURES["imagenet_r"]()
    train, test = good.files["imagenet-r_train.yaml"], good.files["imagenet-r_test.yaml"]
    more = coda_lists("x", "data/imagenet-r/", {"n01443537/lost.jpg": ("n01443537", "train")}, ["n01443537"])
    cases = {
        train.replace(b"art_0", b"art_9"): "6 images .* are in no archive, as 'n01443537/art_9.jpg'",
        more["x_train.yaml"]: "1 images .* are in no archive, as 'n01443537/lost.jpg'",
        test: r"12 images are in both imagenet-r_train.yaml and imagenet-r_test.yaml, as 'n01443537/",
        train.replace(b"data/imagenet-r/n02", b"elsewhere/n02", 1): "'elsewhere/n02.*' does not match the pattern",
        train.replace(b"targets", b"labels"): "imagenet-r_train.yaml is not a list of images",
        train + b"- 3\n": "24 images and 25 targets",
        b"data: []\ntargets: []": "names no image",
        b"<html>\n\t!": "not a list of images",
    }
    for content, expected in cases.items():
        publish("imagenet_r", replace(good, files=good.files | {"imagenet-r_train.yaml": content}), server)
        assert re.search(expected, failure("imagenet_r"))
        shutil.rmtree("downloads")


def test_wrong_options_are_errors_that_say_which(project, server):
    publish("imagenet_r", MINIATURES["imagenet_r"](), server)
    for options, expected in [
        ({"pattern": "(?P<image>.*)"}, r"options: pattern: .* has no group \(\?P<class>"),
        ({"pattern": "(?P<image>.*"}, "is not a regular expression"),
        ({"pattern": "(?P<image>(?P<class>x)/.*)"}, "no image in imagenet-r.tar matches the pattern"),
        ({"pattern": r"(?:.*/)?(?P<class>n\d{8})/(?P<image>.*)"}, "are both called 'art_0.jpg'"),
        ({"archives": ["imagenet-a.tar"]}, "did you mean 'imagenet-r.tar'"),
        ({"split": {"train": "imagenetr_train.yaml"}}, "did you mean 'imagenet-r_train.yaml'"),
        ({"split": {"test": "imagenet-r.tar:test.txt"}}, "no file of imagenet-r.tar, .* is an archive of images"),
        (
            {"split": {"test": "imagenet-r.tar:test.txt"}, "archives": ["imagenet-r.tar"]},
            "imagenet-r.tar has no member 'test.txt'",
        ),
    ]:
        change("imagenet_r", **options)
        assert re.search(expected, failure("imagenet_r"))
        publish("imagenet_r", MINIATURES["imagenet_r"](), server)


def test_other_counts_than_the_published_ones_are_an_error(project, server):
    miniature = MINIATURES["vtab"]()
    publish("vtab", replace(miniature, images=dict(list(miniature.images.items())[:-1])), server)
    shutil.copytree(server.folder, "downloads/vtab")
    assert "7 test images are published, 8 were found" in failure("vtab")


def test_other_counts_than_those_of_documents_are_not(project, server):
    publish("eurosat", eurosat(), server)
    count("eurosat", train=31, test=9, exact=False)
    data.prepare("eurosat")
    assert Counter(data.load("eurosat").labels.splits) == {"train": 32, "test": 8}


@pytest.mark.parametrize("name", MINIATURES)
def test_a_dataset_says_where_the_papers_split_is_not_known(name):
    known = name in ("cifar100", "domainnet")
    assert ("the paper's split is not published" in load_dataset(name).note) != known


@pytest.mark.parametrize("content", [picture("River")[:-200], b"<html>", b""], ids=["cut", "page", "empty"])
def test_a_damaged_image_in_an_archive_is_named(project, server, content):
    miniature = eurosat()
    members = [(f"2750/{name}", picture(c)) for name, (c, _) in miniature.images.items()]
    members[-1] = (members[-1][0], content)
    publish("eurosat", replace(miniature, files={"EuroSAT.zip": zipped(members)}), server)
    assert "River/River_10.jpg cannot be read as an image" in failure("eurosat")
    before = dataset_digest("eurosat")
    change("eurosat", exclude={"River/River_10.jpg": "damaged in the archive"})
    count("eurosat", train=31, test=8)
    data.prepare("eurosat")
    assert set(data.load("eurosat").labels.ids) == miniature.images.keys() - {"River/River_10.jpg"}
    assert dataset_digest("eurosat") != before


def test_an_excluded_image_is_missed_by_no_list_and_an_unknown_one_is_an_error(project, server):
    miniature = MINIATURES["domainnet"]()
    publish("domainnet", miniature, server)
    damaged = next(name for name, (_, split) in miniature.images.items() if split == "train")
    change("domainnet", exclude={damaged: "damaged", "real/none.jpg": "damaged"})
    assert "exclude names 'real/none.jpg', but no image is called that" in failure("domainnet")
    change("domainnet", exclude={damaged: "damaged"})
    count("domainnet", train=miniature.counts["train"] - 1, test=miniature.counts["test"])
    data.prepare("domainnet")
    assert set(data.load("domainnet").labels.ids) == miniature.images.keys() - {damaged}


KILLED = """
import sys
import ntkcl.data.packed as packed
whole = packed.decode
def decode_some(content, name, *rest):
    if name == sys.argv[1]:
        print("there", flush=True)
        sys.stdin.read()
    return whole(content, name, *rest)
packed.decode = decode_some
import ntkcl.data
ntkcl.data.prepare("kvasir")
"""


def test_a_kill_in_the_middle_leaves_nothing_and_the_next_run_succeeds(project, server):
    miniature = MINIATURES["kvasir"]()
    publish("kvasir", miniature, server)
    command = [sys.executable, "-c", KILLED, list(miniature.images)[20]]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "there\n"
        process.send_signal(signal.SIGKILL)
    left = [file.name for file in Path("data/kvasir").iterdir()]
    assert left and all(name.endswith(".partial") for name in left)
    with pytest.raises(UserError, match="ntkcl data prepare kvasir"):
        data.load("kvasir")
    data.prepare("kvasir")
    assert len(data.load("kvasir").labels) == len(miniature.images)
    assert sorted(file.name for file in Path("data/kvasir").iterdir()) == ["images.safetensors", "manifest.csv"]


def test_a_wrong_file_put_there_by_hand_is_not_what_the_right_one_is_compared_with(project, server):
    miniature = MINIATURES["plantvillage"]()
    publish("plantvillage", miniature, server)
    path = Path("downloads/plantvillage/plantdisease.zip")
    assert "must be fetched by hand" in failure("plantvillage")
    path.write_bytes(b"no zip")  # into the folder that the message named
    assert "delete it" in failure("plantvillage")
    path.write_bytes(miniature.files["plantdisease.zip"])
    data.prepare("plantvillage")
    checksums = json.loads(Path("params/checksums.json").read_text())
    assert list(checksums) == ["plantvillage/plantdisease.zip"]


def test_far_fewer_images_than_reported_are_an_error_and_some_fewer_a_warning(project, server, capsys):
    miniature = MINIATURES["eurosat"]()
    publish("eurosat", miniature, server)
    path = Path("params/datasets/eurosat.yaml")
    content = yaml.safe_load(path.read_text())
    train, test = miniature.counts["train"], miniature.counts["test"]
    for reported, odd in ((2 * train, "error"), (round(1.05 * train), "warning"), (train, "")):
        content["counts"] = {"train": reported, "test": test, "exact": False}
        path.write_text(yaml.safe_dump(content))
        clear_settings()
        if odd == "error":
            assert f"{reported + test} images are reported, {train + test} were found" in failure("eurosat")
        else:
            data.prepare("eurosat")
            assert ("images are reported" in capsys.readouterr().err) == (odd == "warning")
