"""The contract of a learner, checked for every method in `ntkcl/methods/`: a new method needs no code here.

Each method has its default settings, on a ViT of 16 channels with six blocks.
"""

import signal
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from ntkcl.backbones.vit_blocks import in_precision
from ntkcl.bench.memory import kept_for_backward
from ntkcl.data.loading.batches import ArrayImages
from ntkcl.methods.learner import Learner
from ntkcl.registry import METHODS
from ntkcl.settings.models import Training
from ntkcl.tasks import Task, tasks_of
from ntkcl.training.loop import learn_task
from tests.helpers.interruptions import FIRST, NEVER, OPTIMIZERS, kill, learn_second, new_learner, noise_images
from tests.helpers.learners import DEPTH, learn, learner_of, small_vit, task_images

SIZES = (2, 3, 2)
TRAINING = Training(lr=0.01, epochs=2, batch_size=7)  # the last batch of tasks of 8 images has one image
OPEN_ENDED: dict[str, dict] = {
    "coda_prompt": {"tasks": 2}
}  # settings for a stream of unknown length, where the defaults do not allow one

pytestmark = pytest.mark.parametrize("method", METHODS.names())


def without_dropout(method: str) -> dict[str, float]:
    """Settings that switch all dropout of a method off."""
    return {name: 0.0 for name in METHODS.load(method).Settings.model_fields if name.endswith("_dropout")}


@cache
def learned(method: str) -> tuple[Learner, dict[str, Tensor]]:
    """A learner that has learned all tasks, and its state; do not change it."""
    learner = learner_of(method, DEPTH)
    states, _ = learn(learner, SIZES)
    return learner, states[-1]


def in_float32(images: ArrayImages) -> ArrayImages:
    return ArrayImages(images.images.float(), images.labels, images.device)


def test_each_task_adds_a_column_of_scores_for_each_of_its_classes(method):
    learner = learner_of(method, DEPTH)
    torch.manual_seed(1)
    for task in tasks_of(list(SIZES)):
        images = task_images(range(task.first_class, task.classes_learned))
        learn_task(learner, task, images, TRAINING)
        scores = learner.scores(images.images)
        assert scores.shape == (len(images.labels), task.classes_learned)
        assert scores.isfinite().all()
        logits = learner.training_logits(learner.extract_features(images.images))
        assert 0 <= learner.first_class <= task.first_class
        assert logits.shape == (len(images.labels), task.classes_learned - learner.first_class)


def test_scores_of_an_image_do_not_depend_on_its_batch(method):
    learner, _ = learned(method)
    images = task_images(range(7), per_class=2, seed=9).images
    together, alone = learner.scores(images), torch.cat([learner.scores(image[None]) for image in images])
    assert torch.allclose(together, alone, atol=1e-12)


def test_classes_in_another_order_have_their_scores_in_that_order(method):
    """Labels and initial rows of the classes change places; the sizes 7 and 11 are those of no other dimension."""
    order, first, scores = torch.tensor([3, 0, 6, 1, 5, 2, 4]), tasks_of([7, 4])[0], []
    images = task_images(range(7), per_class=2)
    for labels in (torch.arange(7), order):
        learner = learner_of(method, DEPTH, **without_dropout(method))
        add_task = learner.add_task

        def add_permuted(task, learner=learner, add_task=add_task, labels=labels):
            add_task(task)
            for tensor in learner.own_tensors().values():
                if tensor.ndim and len(tensor) in (7, 11):
                    tensor[labels] = tensor[:7].clone()

        learner.add_task = add_permuted
        torch.manual_seed(1)
        learn_task(learner, first, ArrayImages(images.images, labels[images.labels], images.device), TRAINING)
        scores.append(learner.scores(images.images).detach())
    assert torch.allclose(scores[0], scores[1][:, order], atol=1e-7)


def test_learns_from_a_stream_of_unknown_length(method):
    learner = learner_of(method, DEPTH, **OPEN_ENDED.get(method, {}))
    for number in range(2):
        task = Task(index=number, first_class=2 * number, size=2)
        images = task_images(range(2 * number, 2 * number + 2))
        learn_task(learner, task, images, TRAINING)
        assert learner.scores(images.images).shape == (8, 2 * number + 2)
        assert learner.scores(images.images).isfinite().all()


def test_all_states_together_score_like_each_alone(method):
    learner, images = learner_of(method, DEPTH), task_images(range(7), per_class=1).images
    learners = []
    for index, state in enumerate(learn(learner, SIZES)[0]):
        learners.append(learner_of(method, DEPTH))
        learners[-1].backbone = learners[0].backbone
        learners[-1].load_state(state, tasks_of(list(SIZES))[: index + 1])
        learners[-1].double().eval()
    together = learner.scores_of_states(learners, images)
    for each, scores in zip(learners, together, strict=True):
        assert torch.allclose(each.scores(images), scores, atol=1e-12)


def test_named_features_have_a_row_for_each_image(method):
    learner, _ = learned(method)
    features = learner.named_features(learner.extract_features(task_images(range(2)).images))
    assert features and all(feature.ndim == 2 and len(feature) == 8 for feature in features.values())


def test_a_state_restores_the_learner_without_its_backbone(method):
    (learner, state), images = learned(method), task_images(range(7)).images
    fresh = learner_of(method, DEPTH)
    fresh.load_state(state, tasks_of(list(SIZES)))
    assert not [name for name in state if name.startswith("backbone") or "attn" in name]
    assert fresh.state().keys() == state.keys()
    assert all(torch.equal(tensor, state[name].to(tensor)) for name, tensor in fresh.state().items())
    assert torch.allclose(fresh.double().eval().scores(images), learner.scores(images), atol=1e-5)


def test_a_state_predicts_without_what_only_the_next_task_reads(method):
    learner, state = learned(method)
    small = {name: tensor for name, tensor in state.items() if not learner.is_for_next_task(name)}
    fresh = learner_of(method, DEPTH)
    fresh.load_state(small, tasks_of(list(SIZES)))
    images = task_images(range(7)).images
    assert fresh.is_complete == (len(small) == len(state)) == (not learner.for_next_task)
    assert torch.allclose(fresh.double().eval().scores(images), learner.scores(images), atol=1e-5)
    assert fresh.state().keys() == small.keys()


def test_a_state_of_other_tasks_is_refused(method):
    with pytest.raises(RuntimeError):
        learner_of(method, DEPTH).load_state(learned(method)[1], tasks_of([2, 3]))


def test_a_restored_learner_learns_the_next_task_like_the_one_that_never_stopped(method):
    tasks, images = tasks_of(list(SIZES)), [task_images(range(2)), task_images(range(2, 5)), task_images(range(5, 7))]
    whole, first = learner_of(method, DEPTH).float(), learner_of(method, DEPTH).float()
    for number, learner in enumerate((whole, first)):
        torch.manual_seed(1)
        for task, part in zip(tasks[: 3 - number], images, strict=False):
            learn_task(learner, task, in_float32(part), TRAINING)
    state = torch.get_rng_state()
    again = learner_of(method, DEPTH).float()
    again.load_state(first.state(), tasks[:2])
    torch.set_rng_state(state)
    learn_task(again, tasks[2], in_float32(images[2]), TRAINING)
    assert again.state().keys() == whole.state().keys()
    assert all(torch.equal(tensor, whole.state()[name]) for name, tensor in again.state().items())


def test_training_changes_nothing_of_the_backbone(method):
    (learner, _), given = learned(method), small_vit(DEPTH).state_dict()
    assert all(torch.equal(tensor, given[name]) for name, tensor in learner.backbone.state_dict().items())
    assert not any(parameter.requires_grad for parameter in learner.backbone.parameters())
    assert not learner_of(method, DEPTH).train().backbone.training


def test_equal_seeds_learn_equal_states(method):
    state = learn(learner_of(method, DEPTH), SIZES)[0][-1]
    assert all(torch.equal(tensor, state[name]) for name, tensor in learned(method)[1].items())


@cache
def uninterrupted(folder: Path, method: str, batches: int, optimizer: str) -> tuple:
    return learn_second(folder / "whole", method, batches=batches, optimizer=optimizer)


def terminate() -> None:
    """Send SIGTERM to this process; where training does not handle it, as after the last step, the process ends."""
    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        kill()
    signal.raise_signal(signal.SIGTERM)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ends=st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=1, max_size=2),
    interval=st.sampled_from([0, 0, NEVER]),
    batches=st.sampled_from([1, 2]),
    optimizer=st.sampled_from(OPTIMIZERS),
)
def test_interrupted_anywhere_in_a_task_it_ends_with_the_same_bytes(
    tmp_path, method, ends, interval, batches, optimizer
):
    path = tmp_path / "checkpoint.safetensors"
    path.unlink(missing_ok=True)
    for at, by_signal in ends:
        event = terminate if by_signal else kill
        learn_second(path, method, at, event, interval, batches, optimizer)
    found = learn_second(path, method, interval=interval, batches=batches, optimizer=optimizer)
    assert found == uninterrupted(tmp_path, method, batches, optimizer)
    assert not list(tmp_path.iterdir())


def test_bfloat16_is_near_float32_and_stays_inside_the_backbone(method):
    kind, scores, tasks, images = METHODS.load(method), [], tasks_of([3, 3]), in_float32(task_images(range(6)))
    vit = small_vit(DEPTH).float()
    for parameter in vit.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    given = {name: tensor.clone() for name, tensor in vit.state_dict().items()}
    for precision in ("float32", "bfloat16"):
        torch.manual_seed(4)
        learner = kind(in_precision(vit, precision), kind.Settings())
        for task in tasks:
            learn_task(learner, task, in_float32(task_images(range(task.first_class, task.classes_learned))), TRAINING)
        assert all(feature.dtype == torch.float32 for feature in learner.extract_features(images.images))
        assert not {tensor.dtype for tensor in learner.state().values()} & {torch.float64, torch.bfloat16}
        scores.append(learner.scores(images.images).detach())
        assert learner.autocast()._enabled == (precision == "bfloat16")
    assert all(torch.equal(tensor, given[name]) for name, tensor in vit.state_dict().items())
    difference = (scores[0] - scores[1]).abs().max() / scores[0].abs().max()
    assert 0 < difference < 0.05


def test_unknown_settings_are_refused(method):
    with pytest.raises(ValidationError, match="no_such_setting"):
        METHODS.load(method).Settings(no_such_setting=1)


def test_the_memory_of_a_step_is_known_from_shapes(method):
    """As `ntkcl bench` computes it, after one epoch of a task."""
    learner, training = new_learner(method)
    learn_task(learner, FIRST, noise_images(FIRST), training.model_copy(update={"epochs": 1}))
    if learner.trained_parameters():
        assert kept_for_backward(learner.train(), torch.rand(5, 1, 8, 8), torch.tensor([0, 1, 0, 1, 0])) > 0
