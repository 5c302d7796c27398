"""States between tasks: their content, what they refuse, and that one process for each task changes nothing."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load, load_file, save_file

from ntkcl.backbones.files import write_weights
from ntkcl.data.prepared.manifest import content_digest, read_manifest
from ntkcl.errors import UserError
from ntkcl.runs import resolve
from ntkcl.storage.tensor_bytes import SEAL
from ntkcl.storage.tensors import write_tensors
from ntkcl.training.loop import learn_task
from ntkcl.training.parts import backbone_of, new_learner, stream_of
from ntkcl.training.train import train_task
from tests.helpers.learners import CPU
from tests.helpers.projects import change
from tests.helpers.tensor_files import rewrite_tensors


@pytest.fixture
def new_run(tiny):
    """A run that has not started."""
    return resolve("digits", "vit_tiny", "ntk_cl", 0)


@pytest.fixture
def run(finished):
    """A run after the first of its two tasks."""
    run = resolve("digits", "vit_tiny", "ntk_cl", 0)
    shutil.rmtree(run.state_path(1).parent)
    return run


def test_one_process_for_each_task_equals_one_for_all(finished):
    run = resolve("digits", "vit_tiny", "ntk_cl", 0)
    stream = stream_of(run)
    torch.manual_seed(run.seed)
    learner = new_learner(run, backbone_of(run, CPU))
    for task in run.tasks:
        learn_task(learner, task, stream.train_images(task, CPU), run.training)
        in_jobs = load_file(run.state_path(task.index))
        for name, tensor in learner.state().items():
            assert torch.equal(in_jobs[f"learner/{name}"], tensor), name
        assert torch.equal(in_jobs["random/cpu"], torch.get_rng_state())


def test_a_state_has_its_provenance_and_no_backbone(run):
    with safe_open(run.state_path(0), "pt") as file:
        about, names = json.loads(file.metadata()["ntkcl"]), list(file.keys())
    assert about["digest"] == run.digest
    assert about["seed"] == 0
    assert about["task"] == 0
    assert {"torch", "timm", "numpy", "ntkcl", "python"} <= set(about["provenance"]["versions"])
    assert not [name for name in names if "backbone" in name or "attn" in name]


def test_equal_runs_give_equal_bytes(finished):
    """They do not depend on random numbers that the process used before."""
    run = resolve("digits", "vit_tiny", "ntk_cl", 0)
    for index in (0, 1):
        paths = run.state_path(index), run.state_path(index).with_name("losses.csv")
        before = [path.read_bytes() for path in paths]
        torch.manual_seed(1234)
        train_task(run, index, CPU)
        assert [path.read_bytes() for path in paths] == before


def test_seeds_give_different_runs(run):
    other = resolve("digits", "vit_tiny", "ntk_cl", 1)
    train_task(other, 0, CPU)
    assert run.state_path(0).read_bytes() != other.state_path(0).read_bytes()
    assert stream_of(run).classes != stream_of(other).classes


def failure(run, index=1) -> str:
    with pytest.raises(UserError) as error:
        train_task(run, index, CPU)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_missing_state(new_run):
    assert "task0/state.safetensors is missing" in failure(new_run)


def test_a_truncated_state(run):
    path = run.state_path(0)
    path.write_bytes(path.read_bytes()[:5000])
    assert "is damaged" in failure(run)
    path.write_bytes(b"")
    assert "is damaged" in failure(run)


def test_a_foreign_state(run):
    save_file({"weight": torch.zeros(3)}, run.state_path(0))
    assert "is not a file of the format ntkcl-state 3" in failure(run)


def test_a_state_of_other_settings_names_what_to_do(run):
    change("params/methods/ntk_cl.yaml", "epochs: 2", "epochs: 1")
    changed = resolve("digits", "vit_tiny", "ntk_cl", 0)
    message = failure(changed)
    assert "was made with other settings" in message
    assert "delete runs/digits/vit_tiny/ntk_cl/seed0/task0" in message
    assert run.state_path(0).exists()


def test_a_state_of_another_task_or_run(run):
    other = resolve("digits", "vit_tiny", "ntk_cl", 1)
    other.state_path(0).parent.mkdir(parents=True)
    other.state_path(0).write_bytes(run.state_path(0).read_bytes())
    assert "was made with other settings" in failure(other)


def test_a_state_whose_tensors_do_not_fit(run):
    rewrite_tensors(run.state_path(0), prototypes=torch.zeros(3, 3))
    assert "does not fit its method" in failure(run)
    rewrite_tensors(run.state_path(0), without=("prototypes",))
    assert "names differ: prototypes" in failure(run)


def test_a_task_that_the_run_does_not_have(new_run):
    assert "has no task 7; it has tasks 0 to 1" in failure(new_run, 7)


def test_other_images_or_weights_than_those_learned_on_are_refused(run):
    path = Path("data/digits/manifest.csv")
    rows = path.read_text()
    path.write_text(rows.replace("train", "test", 1))
    images = Path("data/digits/images.safetensors").read_bytes()
    prepared_again = {"content": content_digest(*read_manifest(path, ""))}
    with safe_open("data/digits/images.safetensors", "pt") as file:
        metadata = json.loads(file.metadata()["ntkcl"])
    del metadata[SEAL]
    write_tensors(Path("data/digits/images.safetensors"), load(images), metadata | prepared_again)
    with pytest.raises(UserError, match="was learned on other images than those in data/digits"):
        train_task(run, 1, CPU)
    path.write_text(rows)
    Path("data/digits/images.safetensors").write_bytes(images)
    weights = {name: tensor + 0.1 for name, tensor in load_file("backbones/vit_tiny.safetensors").items()}
    write_weights("vit_tiny", weights, {})
    with pytest.raises(UserError, match="was learned on other weights than those of vit_tiny"):
        train_task(run, 1, CPU)
