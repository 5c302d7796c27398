"""Published weights become a backbone, or an error of one line; the files come from a real server on loopback."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import save_file
from timm import create_model
from torch import Tensor

from ntkcl.backbones.files import load_vit
from ntkcl.backbones.timm_weights import check_tag, convert_timm_weights
from ntkcl.errors import UserError
from ntkcl.settings.files import load_backbone
from tests.helpers.commands import ntkcl, one_line
from tests.helpers.http_server import Behaviour, FileServer
from tests.helpers.projects import clear_settings

TAG = "vit_tiny_patch16_224.augreg_in21k"
TINY = {"img_size": 224, "patch_size": 16, "in_chans": 3, "embed_dim": 192, "depth": 12, "num_heads": 3, "mlp_ratio": 4}
SOURCE, DOWNLOAD = Path("server/model.safetensors"), Path("downloads/tiny/tiny.safetensors")


@pytest.fixture(scope="module")
def checkpoint() -> dict[str, Tensor]:
    """Tensors as published: timm's own names and shapes with a classification head, random values."""
    torch.manual_seed(0)
    return create_model(TAG, pretrained=False, num_classes=7).state_dict()


@pytest.fixture
def served(project: Path) -> Iterator[FileServer]:
    """A project whose backbone `tiny` is published by a server, which has no file yet."""
    SOURCE.parent.mkdir()
    with FileServer(SOURCE.parent) as server:
        write_settings(server.url("model.safetensors"))
        yield server


def write_settings(url: str, tag: str = TAG, **architecture: int) -> None:
    weights = {"timm": tag, "files": {"tiny.safetensors": {"urls": [url]}}}
    entry = {"label": "Tiny", "architecture": TINY | architecture, "weights": weights}
    Path("params/backbones.yaml").write_text(yaml.safe_dump({"tiny": entry}), encoding="utf-8")
    clear_settings()


def failure() -> str:
    """The message of the error on adopting, which is one line; nothing was written."""
    with pytest.raises(UserError) as error:
        convert_timm_weights("tiny")
    assert "\n" not in str(error.value)
    assert not Path("backbones").exists()
    return str(error.value)


def about() -> dict:
    with safe_open("backbones/tiny.safetensors", "pt") as file:
        return json.loads(file.metadata()["ntkcl"])


def test_features_are_exactly_those_of_timms_own_model(served: FileServer, checkpoint: dict[str, Tensor]) -> None:
    save_file(checkpoint, SOURCE)
    done = ntkcl("backbone", "tiny")
    assert done.returncode == 0, done.stderr
    theirs = create_model(TAG, pretrained=False, num_classes=7).eval()
    theirs.load_state_dict(checkpoint)
    images = torch.rand(2, 3, 224, 224)
    with torch.no_grad():
        assert torch.equal(load_vit("tiny")(images), theirs.forward_head(theirs.forward_features(images), True))


def test_the_file_says_where_it_comes_from(served: FileServer, checkpoint: dict[str, Tensor]) -> None:
    save_file(checkpoint, SOURCE)
    served.behaviours["model.safetensors"] = Behaviour(headers={"X-Repo-Commit": "abc123"})
    convert_timm_weights("tiny")
    assert about()["timm"] == TAG
    assert about()["sha256"] == hashlib.sha256(SOURCE.read_bytes()).hexdigest()
    assert (about()["url"], about()["revision"]) == (served.url("model.safetensors"), "abc123")
    first = Path("backbones/tiny.safetensors").read_bytes()
    shutil.rmtree("backbones")
    convert_timm_weights("tiny")
    assert Path("backbones/tiny.safetensors").read_bytes() == first


def test_a_file_that_a_person_put_there_needs_no_network(
    served: FileServer, checkpoint: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NTKCL_DOWNLOADS", str(tmp_path / "elsewhere"))
    (tmp_path / "elsewhere/tiny").mkdir(parents=True)
    save_file(checkpoint, tmp_path / "elsewhere/tiny/tiny.safetensors")
    convert_timm_weights("tiny")
    assert served.requests == []
    assert load_vit("tiny").embed_dim == 192


def test_a_file_that_nobody_has_says_where_to_put_it(served: FileServer) -> None:
    assert str(DOWNLOAD) in failure()


def changed(tensors: dict[str, Tensor], name: str, value: Tensor | None) -> dict[str, Tensor]:
    rest = {key: tensor for key, tensor in tensors.items() if key != name}
    return rest if value is None else rest | {name: value}


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("norm.bias", None, "tensor 'norm.bias' is missing"),
        ("head_dist.weight", torch.zeros(7, 192), "tensor 'head_dist.weight' is not part of it"),
        ("pos_embed", torch.zeros(1, 196, 192), "tensor 'pos_embed' is torch.float32 (1, 196, 192), not torch.float32"),
        ("cls_token", torch.zeros(1, 1, 192).half(), "tensor 'cls_token' is torch.float16 (1, 1, 192), not torch.fl"),
    ],
)
def test_tensors_that_do_not_fit(
    project: Path, checkpoint: dict[str, Tensor], name: str, value: Tensor | None, expected: str
) -> None:
    write_settings("http://127.0.0.1:9/")
    DOWNLOAD.parent.mkdir(parents=True)
    save_file(changed(checkpoint, name, value), DOWNLOAD)
    message = failure()
    assert f"{DOWNLOAD} does not fit the architecture of {TAG}: {expected}" in message
    assert "remove its entry in params/checksums.json" in message


def test_files_that_are_not_whole_safetensors(served: FileServer, checkpoint: dict[str, Tensor]) -> None:
    torch.save(checkpoint, SOURCE)
    assert "is not a whole safetensors file" in failure()
    assert "is not a whole safetensors file" in one_line(ntkcl("backbone", "tiny"))  # now that nothing is fetched
    shutil.rmtree("downloads")
    Path("params/checksums.json").unlink()
    save_file(checkpoint, SOURCE)
    SOURCE.write_bytes(SOURCE.read_bytes()[:-1000])
    assert "is not a whole safetensors file" in failure()


@pytest.mark.parametrize(
    ("tag", "changes", "expected"),
    [
        (TAG + "k", {}, f"timm has no weights '{TAG}k'; did you mean '{TAG}'?"),
        ("vit_small_patch16_224.augreg_in21k", {}, "tensor 'blocks.0.attn.proj.bias' is torch.float32 (192,), not"),
        (TAG, {"num_heads": 6}, "it has 3 heads, not 6"),
        ("resnet18.a1_in1k", {}, "it is a ResNet, not a VisionTransformer"),
    ],
)
def test_a_tag_of_another_architecture_is_refused_before_anything_is_fetched(
    served: FileServer, tag: str, changes: dict[str, int], expected: str
) -> None:
    write_settings(served.url("model.safetensors"), tag, **changes)
    assert expected in failure()
    assert served.requests == []


@pytest.mark.parametrize("name", ["vit_b16_in21k", "vit_b16_in1k"])
def test_the_papers_backbones_are_what_timm_calls_them(project: Path, name: str) -> None:
    backbone = load_backbone(name)
    check_tag(backbone.weights.timm, backbone.architecture, name)
    ((file_name, file),) = backbone.weights.files.items()
    assert file_name == f"{backbone.weights.timm}.safetensors"
    assert file.urls[0].endswith(f"/timm/{backbone.weights.timm}/resolve/{{revision}}/model.safetensors")
