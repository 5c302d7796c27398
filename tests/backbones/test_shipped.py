"""The weights that come with the package: complete, the ones that the settings describe, usable without a project."""

import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest
import torch
import yaml
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import load_file

from ntkcl import Classifier
from ntkcl.backbones import shipped
from ntkcl.backbones.digest import backbone_digest
from ntkcl.backbones.files import copy_shipped_weights, load_vit, weights_metadata, write_weights
from ntkcl.backbones.pretraining import pretrain
from ntkcl.backbones.shipped import shipped_metadata, shipped_path
from ntkcl.commands.backbone import backbone
from ntkcl.errors import UserError
from ntkcl.settings.files import load_backbone
from tests.helpers.commands import ntkcl, one_line
from tests.helpers.projects import REPOSITORY, change, clear_settings

SETTINGS, COPY = "params/backbones.yaml", Path("backbones/vit_micro.safetensors")
SHIPPED = "cccab4486b435794fd5e9180595b144b2fc91ccafa549aea08f1139d79022f14"  # in published tables: never change it
BRIGHT_AND_DARK = [(Image.new("L", (32, 32), level), level // 128) for level in range(0, 256, 5)]


def failure(function, *arguments) -> str:
    with pytest.raises(UserError) as error:
        function(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_copying_needs_no_data_and_keeps_weights_and_provenance(project: Path) -> None:
    done = ntkcl("backbone", "vit_micro")
    assert done.returncode == 0, done.stderr
    assert load_vit("vit_micro").embed_dim == 64 and not Path("data").exists()
    assert weights_metadata("vit_micro")["fingerprint"] == load_backbone("vit_micro").shipped == SHIPPED
    copied, original = load_file(COPY), load_file(shipped_path("vit_micro"))
    assert all(torch.equal(copied[name], tensor) for name, tensor in original.items())
    for key in ("pretraining", "provenance", "held_out_accuracy"):
        assert weights_metadata("vit_micro")[key] == shipped_metadata("vit_micro")[key]
    assert {"commit", "device", "versions"} <= weights_metadata("vit_micro")["provenance"].keys()
    content = COPY.read_bytes()
    assert ntkcl("backbone", "vit_micro").returncode == 0
    assert COPY.read_bytes() == content


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (SHIPPED, "c" * 64, f"vit_micro: the weights in the package have the fingerprint {SHIPPED}"),
        ("steps: 4500", "steps: 9000", "vit_micro: pretraining.steps is 9000, of the shipped weights 4500; remove `sh"),
        ("depth: 4", "depth: 5", "vit_micro: architecture.depth is 5, of the shipped weights 4; remove `shipped`"),
    ],
)
def test_settings_that_do_not_describe_the_shipped_weights(project: Path, old: str, new: str, expected: str) -> None:
    change(SETTINGS, old, new)
    assert expected in failure(backbone_digest, "vit_micro")
    assert expected in failure(copy_shipped_weights, "vit_micro")
    assert not COPY.exists()


def test_settings_that_ask_for_weights_that_are_not_shipped(project: Path) -> None:
    change(SETTINGS, "vit_micro:", "vit_macro:")
    assert "vit_macro: the package has weights of vit_micro only; remove `shipped`" in failure(
        backbone_digest, "vit_macro"
    )
    assert "leave out --retrain" in one_line(ntkcl("backbone", "vit_b16_in1k", "--retrain"))


def test_other_weights_are_refused_until_the_settings_ask_for_them(project: Path) -> None:
    before = backbone_digest("vit_micro")
    tensors = load_file(shipped_path("vit_micro"))
    tensors["norm.bias"] += 1e-6
    write_weights("vit_micro", tensors, {})
    assert (
        "run `ntkcl backbone vit_micro` for the weights in the package, or remove `shipped` from vit_micro"
        in failure(load_vit, "vit_micro")
    )
    change(SETTINGS, f"  shipped: {SHIPPED}\n", "")
    assert torch.equal(load_vit("vit_micro").norm.bias, tensors["norm.bias"])
    assert backbone_digest("vit_micro") != before  # so that runs on the shipped weights are outdated


def test_retraining(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretrain("nano", device="cpu")
    path = Path("backbones/nano.safetensors")
    settings = yaml.safe_load(Path(SETTINGS).read_text())
    settings["nano"]["shipped"] = weights_metadata("nano")["fingerprint"]
    Path(SETTINGS).write_text(yaml.safe_dump(settings))
    clear_settings()
    monkeypatch.setattr(shipped, "FOLDER", small / "weights")
    shutil.copytree("backbones", "weights")
    retrain = ["nano", "--retrain", "--device", "cpu"]
    assert CliRunner().invoke(backbone, ["nano"]).exit_code == 0
    content = path.read_bytes()
    assert "equal the ones in the package, bit by bit" in CliRunner().invoke(backbone, retrain).output
    assert path.read_bytes() == content


def test_the_library_needs_no_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one").mkdir()
    monkeypatch.chdir(tmp_path / "one")
    model = Classifier("vit_micro", "simplecil", device="cpu")
    model.learn(BRIGHT_AND_DARK, ["dark", "bright"])
    model.save("saved.safetensors")
    (tmp_path / "two").mkdir()
    monkeypatch.chdir(tmp_path / "two")
    (tmp_path / "one/saved.safetensors").rename("moved.safetensors")
    answers = Classifier.load("moved.safetensors", device="cpu").predict([Image.new("L", (32, 32), 250)])
    assert answers[0][0][0] == "bright"
    message = failure(Classifier, "vit_mikro")
    assert "unknown backbone 'vit_mikro': no such file" in message and "did you mean 'vit_micro'?" in message
    assert "backbones/vit_micro.safetensors is missing" in failure(Classifier, COPY)


@pytest.mark.slow
def test_an_installed_wheel_has_the_weights(tmp_path: Path) -> None:
    source, wheel = tmp_path / "source", tmp_path / "wheel"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    shutil.copytree(REPOSITORY / "ntkcl", source / "ntkcl", ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(wheel)]
    subprocess.run([*command, str(source)], check=True, capture_output=True)
    with ZipFile(next(wheel.glob("*.whl"))) as archive:
        archive.extractall(tmp_path / "installed")
    code = "import ntkcl; print(ntkcl.Classifier('vit_micro', 'simplecil').architecture.embed_dim, ntkcl.__file__)"
    environment = {"PYTHONPATH": str(tmp_path / "installed"), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["64", str(tmp_path / "installed/ntkcl/__init__.py")], done.stderr
