"""Backbones: building, pre-training, and loading what was pre-trained."""

import io
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors import safe_open
from safetensors.torch import load_file

from ntkcl import progress
from ntkcl.backbones.augmentation import augment
from ntkcl.backbones.digest import backbone_digest
from ntkcl.backbones.files import FORMAT, VERSION, build_vit, load_vit
from ntkcl.backbones.pretraining import pretrain
from ntkcl.errors import UserError
from ntkcl.settings.files import load_backbone
from ntkcl.settings.models import Pretraining
from ntkcl.storage.tensors import write_tensors
from tests.helpers.nano_backbone import write_backbone

PATH = Path("backbones/nano.safetensors")


def failure() -> str:
    """The message of the error on loading, which is one line."""
    with pytest.raises(UserError) as error:
        load_vit("nano")
    message = str(error.value)
    assert "\n" not in message
    return message


def test_pretraining_twice_gives_equal_bytes_and_another_seed_others(small: Path) -> None:
    torch.manual_seed(1)
    pretrain("nano", device="cpu")
    first = PATH.read_bytes()
    torch.manual_seed(2)  # nothing may be drawn from the global generator
    pretrain("nano", device="cpu")
    assert PATH.read_bytes() == first
    write_backbone(seed=1)
    pretrain("nano", device="cpu")
    assert PATH.read_bytes() != first


def test_loaded_backbone_is_frozen_and_gives_the_class_token(small: Path) -> None:
    accuracy = pretrain("nano", device="cpu")
    before = torch.get_rng_state()
    model = load_vit("nano")
    assert torch.equal(torch.get_rng_state(), before)
    assert not model.training and not any(parameter.requires_grad for parameter in model.parameters())
    images = torch.rand(3, 1, 16, 16)
    features = model(images)
    assert features.shape == (3, 16) and torch.equal(features, model.forward_features(images)[:, 0])
    with safe_open(PATH, framework="pt") as file:
        metadata = file.metadata()["ntkcl"]
    assert f'"held_out_accuracy": {round(accuracy, 6)}' in metadata and '"torch"' in metadata


def test_pretraining_learns(small: Path) -> None:
    write_backbone(steps=200, scale=[0.9, 1.1], stroke=0.0, blur=0.0)
    assert pretrain("nano", device="cpu") > 0.3  # chance is 0.1


def test_progress_is_lines_where_there_is_no_terminal(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    text = io.StringIO()
    pretrain("nano", device="cpu", console=Console(file=text, width=120))
    assert text.getvalue().startswith("pre-training: 1 of 20 steps, loss ")


def test_loss_that_is_not_finite_stops_and_writes_nothing(small: Path) -> None:
    write_backbone(lr=1e30)
    with pytest.raises(UserError, match=r"loss of the pre-training is nan.*lower pretraining.lr"):
        pretrain("nano", device="cpu")
    assert not PATH.exists()


def test_files_that_do_not_fit_are_one_line_errors(small: Path) -> None:
    assert "missing; run `ntkcl backbone nano`" in failure()
    pretrain("nano", device="cpu")
    content, tensors = PATH.read_bytes(), load_file(PATH)
    PATH.write_bytes(content[:-100])
    assert "damaged" in failure()
    PATH.write_bytes((Path("data/small") / "images.safetensors").read_bytes())
    assert "not a file of the format" in failure()
    about = {"format": FORMAT, "version": VERSION, "digest": backbone_digest("nano")}
    write_tensors(PATH, {name: tensor for name, tensor in tensors.items() if name != "cls_token"}, about)
    assert "'cls_token' is missing" in failure()
    write_tensors(PATH, tensors | {"norm.bias": torch.zeros(8)}, about)
    assert "tensor 'norm.bias' is torch.float32 (8,), not torch.float32 (16,)" in failure()
    PATH.write_bytes(content)
    write_backbone(lr=0.001)
    assert "other settings" in failure()


def test_augmentation_draws_for_each_image_and_only_from_its_generator() -> None:
    images = torch.rand(1, 1, 16, 16).expand(4, 1, 16, 16)
    settings = Pretraining(dataset="small")
    once, again = (augment(images, settings, torch.Generator().manual_seed(0)) for _ in range(2))
    assert torch.equal(once, again) and once.shape == images.shape
    assert not torch.equal(once[0], once[1])
    nothing = {"rotation": 0, "shear": 0, "scale": (1, 1), "shift": 0, "elastic": 0, "stroke": 0, "blur": 0, "noise": 0}
    plain = augment(images, Pretraining(dataset="small", **nothing), torch.Generator().manual_seed(0))
    torch.testing.assert_close(plain, images, atol=1e-5, rtol=0)


def test_listed_backbones_can_be_built(project: Path) -> None:
    model = build_vit(load_backbone("vit_micro").architecture)
    assert model(torch.zeros(2, 1, 32, 32)).shape == (2, 64)
    assert sum(parameter.numel() for parameter in model.parameters()) < 150_000
