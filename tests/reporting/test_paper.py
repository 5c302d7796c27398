"""A part of the paper's study as a user runs it, with a small ViT instead of ViT-B/16 and a miniature CIFAR-100."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file
from timm import create_model

from ntkcl.classifier import Classifier
from ntkcl.settings.files import load_backbone
from tests.helpers.http_server import FileServer
from tests.helpers.miniatures import cifar100
from tests.helpers.projects import REPOSITORY, new_project, sh

pytestmark = pytest.mark.slow
RUN = Path("runs/cifar100/vit_b16_in21k/ntk_cl/seed0")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A project with the paper's settings but for fewer images, epochs and tasks, and a server with its files."""
    folder, server_folder = tmp_path_factory.mktemp("paper") / "project", tmp_path_factory.mktemp("publisher")
    new_project(folder)
    for part in ("methods/ntk_cl.yaml", "datasets", "backbones.yaml", "published", "studies/paper.yaml"):
        source, target = REPOSITORY / "params" / part, folder / "params" / part
        target.parent.mkdir(exist_ok=True)
        shutil.copytree(source, target, dirs_exist_ok=True) if source.is_dir() else shutil.copy(source, target)
    torch.manual_seed(0)
    tag = "vit_tiny_patch16_224.augreg_in21k"
    save_file(create_model(tag, pretrained=False, num_classes=10).state_dict(), server_folder / "model.safetensors")
    with FileServer(server_folder) as server, pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        miniature = cifar100(4, train=2, test=1)
        for name, content in miniature.files.items():
            (server_folder / name).write_bytes(content)
        miniature.adapt("cifar100", server.url)
        path, shape = folder / "params/backbones.yaml", {"embed_dim": 192, "num_heads": 3}
        change(
            path, ["vit_b16_in21k", "architecture"], load_backbone("vit_b16_in21k").architecture.model_dump() | shape
        )
        files = {f"{tag}.safetensors": {"urls": [server.url("model.safetensors")]}}
        change(path, ["vit_b16_in21k", "weights"], {"timm": tag, "files": files})
        change(folder / "params/studies/paper.yaml", ["variants"], ["ntk_cl"])
        short = {"epochs": 1, "batch_size": 4}
        change(folder / "params/methods/ntk_cl.yaml", ["datasets", "cifar100", "training"], short)
        yield folder


def change(path, keys, value):
    content = yaml.safe_load(path.read_text())
    *inner, last = keys
    place = content
    for key in inner:
        place = place[key]
    place[last] = value
    path.write_text(yaml.safe_dump(content, sort_keys=False))


@pytest.fixture(scope="module")
def finished(study):
    """The same project after one run of the paper."""
    assert "0 of 5" in sh(study, "ntkcl", "plan", "paper")
    sh(study, "snakemake", "--cores", "2", str(RUN / "metrics.json"), "--config", "study=paper", "device=cpu")
    return study


def test_one_run_of_the_paper_from_download_to_table(finished):
    content = json.loads((finished / RUN / "metrics.json").read_text())
    assert len(content["metrics"]["accuracy"]) == 2
    assert content["data"]["train"] == 8
    assert content["run"]["settings"]["info_nce_weight"] == 0.03
    assert content["run"]["preprocessing"]["train_crop"] == "random"
    checksums = json.loads((finished / "params/checksums.json").read_text())
    assert [key.partition("/")[0] for key in checksums] == ["cifar100", "vit_b16_in21k"]
    sh(finished, "ntkcl", "report", "partial", "paper")
    table = (finished / "reports/so_far/tables.md").read_text()
    assert "93.76" in table  # the published number
    assert f"{content['metrics']['average_accuracy']:.2f}" in table
    assert content["data"]["split"][:12] in table


def test_its_state_predicts_images(finished):
    state = finished / RUN / "task1/state.safetensors"
    model = Classifier.load(state)
    (((label, score),),) = model.predict([torch.rand(3, 32, 32)])
    assert label in ("apple", "aquarium_fish", "baby", "bear")
    assert score == score
