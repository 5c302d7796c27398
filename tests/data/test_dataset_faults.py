"""The nine datasets where something is wrong: lists, options, counts, images, kills, and files of the user."""

import json
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from ntkcl.data.prepared.prepare import load_images, prepare_dataset
from ntkcl.data.sources.common.options import dataset_digest
from ntkcl.errors import UserError
from ntkcl.settings.files import load_dataset
from tests.helpers.dataset_server import change, count, failure, publish
from tests.helpers.miniatures import MINIATURES, coda_lists, eurosat, picture, zipped
from tests.helpers.projects import clear_settings


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
        train.replace(b"n03594945/art_0", b"n01484850/art_0"): "n01484850/art_0.jpg' has the targets 4 and 0",
        train.replace(b"targets:\n- 4\n", b"targets:\n- 4.5\n"): r"is not a list of images \(.*4\.5",
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
    prepare_dataset("eurosat")
    assert Counter(load_images("eurosat").manifest.splits) == {"train": 32, "test": 8}


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
    prepare_dataset("eurosat")
    assert set(load_images("eurosat").manifest.ids) == miniature.images.keys() - {"River/River_10.jpg"}
    assert dataset_digest("eurosat") != before


def test_an_excluded_image_is_missed_by_no_list_and_an_unknown_one_is_an_error(project, server):
    miniature = MINIATURES["domainnet"]()
    publish("domainnet", miniature, server)
    damaged = next(name for name, (_, split) in miniature.images.items() if split == "train")
    change("domainnet", exclude={damaged: "damaged", "real/none.jpg": "damaged"})
    assert "exclude names 'real/none.jpg', but no image is called that" in failure("domainnet")
    change("domainnet", exclude={damaged: "damaged"})
    count("domainnet", train=miniature.counts["train"] - 1, test=miniature.counts["test"])
    prepare_dataset("domainnet")
    assert set(load_images("domainnet").manifest.ids) == miniature.images.keys() - {damaged}


KILLED = """
import sys
import ntkcl.data.prepared.packed as packed
whole = packed.decode
def decode_some(content, name, *rest):
    if name == sys.argv[1]:
        print("there", flush=True)
        sys.stdin.read()
    return whole(content, name, *rest)
packed.decode = decode_some
from ntkcl.data.prepared.prepare import prepare_dataset
prepare_dataset("kvasir")
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
        load_images("kvasir")
    prepare_dataset("kvasir")
    assert len(load_images("kvasir").manifest) == len(miniature.images)
    assert sorted(file.name for file in Path("data/kvasir").iterdir()) == ["images.safetensors", "manifest.csv"]


def test_a_wrong_file_put_there_by_hand_is_not_what_the_right_one_is_compared_with(project, server):
    miniature = MINIATURES["plantvillage"]()
    publish("plantvillage", miniature, server)
    path = Path("downloads/plantvillage/plantdisease.zip")
    assert "must be downloaded manually" in failure("plantvillage")
    path.write_bytes(b"no zip")  # into the folder that the message named
    assert "delete it" in failure("plantvillage")
    path.write_bytes(miniature.files["plantdisease.zip"])
    prepare_dataset("plantvillage")
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
            prepare_dataset("eurosat")
            assert ("images are reported" in capsys.readouterr().err) == (odd == "warning")
