"""States of methods whose next task needs what prediction does not: a second file, kept for the last task alone."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ntkcl.classifier import Classifier
from ntkcl.data.loading.batches import ArrayImages
from ntkcl.errors import UserError
from ntkcl.runs import resolve
from ntkcl.tasks import Task
from ntkcl.training.evaluate import evaluate
from ntkcl.training.loop import learn_task
from ntkcl.training.parts import backbone_of, new_learner, stream_of
from ntkcl.training.state import load_state, next_task_path
from ntkcl.training.train import train_task
from tests.helpers.learners import CPU
from tests.helpers.tensor_files import rewrite_tensors

METHOD = """
label: RanPAC
learner: ranpac
settings: {projection: 50, adapter_width: 4}
training: {epochs: 1, batch_size: 8}
"""


@pytest.fixture
def run(tiny):
    """A run of RanPAC that has learned both of its tasks."""
    Path("params/methods/ranpac.yaml").write_text(METHOD, encoding="utf-8")
    run = resolve("digits", "vit_tiny", "ranpac", 0)
    for index in (0, 1):
        train_task(run, index, CPU)
    return run


def test_only_the_last_task_keeps_its_second_file(run):
    first, last = (next_task_path(run.state_path(index)) for index in (0, 1))
    assert not first.exists()
    assert load_file(last).keys() == {"learner/gram", "learner/class_sums"}
    assert "learner/gram" not in load_file(run.state_path(1))


def test_evaluation_reads_the_first_files_alone(run):
    next_task_path(run.state_path(1)).unlink()
    assert evaluate(run, CPU)["metrics"]


def test_a_task_that_is_learned_again_learns_the_earlier_ones_for_their_second_files(run):
    paths = [run.state_path(0), run.state_path(1), next_task_path(run.state_path(1))]
    before = [path.read_bytes() for path in paths]
    shutil.rmtree(paths[1].parent)
    train_task(run, 1, CPU)
    assert [path.read_bytes() for path in paths] == before
    assert not next_task_path(run.state_path(0)).exists()


def test_a_state_of_an_earlier_version_has_everything_in_one_file(run):
    path, second = run.state_path(1), next_task_path(run.state_path(1))
    before = path.read_bytes(), second.read_bytes()
    path.unlink()
    train_task(run, 0, CPU)
    rest = load_file(next_task_path(run.state_path(0)))
    rewrite_tensors(run.state_path(0), **{name.removeprefix("learner/"): tensor for name, tensor in rest.items()})
    next_task_path(run.state_path(0)).unlink()
    train_task(run, 1, CPU)
    assert (path.read_bytes(), second.read_bytes()) == before


def test_a_second_file_of_another_state_is_refused(run):
    path = run.state_path(0)
    second = next_task_path(run.state_path(1)).read_bytes()
    next_task_path(path).write_bytes(second)
    with pytest.raises(UserError, match="belongs to another state"):
        train_task(run, 1, CPU)


def test_a_state_without_its_second_file_predicts_and_does_not_learn(run):
    learner = new_learner(run, backbone_of(run, CPU))
    load_state(run.state_path(1), learner, run, run.tasks, stream_of(run))
    images = torch.rand(4, 1, 16, 16)
    assert learner.eval().scores(images).isfinite().all()
    task, labels = Task(index=2, first_class=4, size=1), torch.full((4,), 4)
    with pytest.raises(UserError, match=r"next_task\.safetensors"):
        learn_task(learner, task, ArrayImages(images, labels, CPU), run.training)


def test_a_classifier_learns_on_from_both_files(run):
    dataset = [(torch.rand(1, 8, 8), "new") for _ in range(4)]
    state = Path("copy") / "state.safetensors"
    state.parent.mkdir()
    state.write_bytes(run.state_path(0).read_bytes())
    with pytest.raises(UserError, match=r"next_task\.safetensors"):
        Classifier.load(state, "backbones/vit_tiny.safetensors").learn(dataset)
    run.state_path(1).unlink()
    next_task_path(run.state_path(1)).unlink()
    train_task(run, 0, CPU)
    classifier = Classifier.load(run.state_path(0), "backbones/vit_tiny.safetensors")
    classifier.learn(dataset)
    assert classifier.classes[-1] == "new"
    classifier.save("whole.safetensors")
    assert Classifier.load("whole.safetensors", "backbones/vit_tiny.safetensors").classes == classifier.classes
