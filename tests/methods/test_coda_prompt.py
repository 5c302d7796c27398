"""CODA-Prompt: new components are orthogonal, old ones stay, and weights are cosines."""

import pytest
import torch
from pydantic import ValidationError

from ntkcl.errors import UserError
from ntkcl.settings.models import Training
from ntkcl.tasks import tasks_of
from ntkcl.training.loop import learn_task
from tests.helpers.learners import learner_of, task_images

SMALL = dict(pool_size=6, prompt_length=4, blocks=(0, 2))
TRAINING = Training(optimizer="adam", lr=0.01, epochs=2, batch_size=4, schedule="lagging_cosine", weight_decay=0.1)


@pytest.fixture
def learner():
    """After the first of three tasks."""
    learner = learner_of("coda_prompt", **SMALL)
    learn_task(learner, tasks_of([2, 2, 2])[0], task_images(range(2)), TRAINING)
    return learner


def test_the_first_components_are_orthonormal():
    learner, first = learner_of("coda_prompt", **SMALL), tasks_of([2, 2, 2])[0]
    learner.add_task(first)
    learner.begin_task(first, task_images(range(2)), TRAINING)
    for components in (learner.keys[0], learner.attention[0], learner.prompts[0]):
        rows = components.detach().flatten(2)
        assert torch.allclose(
            rows @ rows.transpose(1, 2), torch.eye(2, dtype=torch.float64).expand(2, 2, 2), atol=1e-12
        )


def test_new_components_are_orthogonal_to_a_single_old_one():
    learner = learner_of("coda_prompt", **SMALL | {"pool_size": 3})
    for index, task in enumerate(tasks_of([2, 2, 2])[:2]):
        images = task_images(range(2 * index, 2 * index + 2))
        if index:
            learner.add_task(task)
            learner.begin_task(task, images, TRAINING)
        else:
            learn_task(learner, task, images, TRAINING)
    old, new = (each.detach().flatten(2) for each in learner.prompts)
    assert (old @ new.transpose(1, 2)).abs().max() < 1e-12
    assert torch.allclose(new.norm(dim=2), torch.ones(2, 1, dtype=torch.float64))


def test_components_of_earlier_tasks_do_not_change(learner):
    before = [each.detach().clone() for each in (*learner.keys, *learner.attention, *learner.prompts)]
    learn_task(learner, tasks_of([2, 2, 2])[1], task_images(range(2, 4)), TRAINING)
    after = [part[0] for part in (learner.keys, learner.attention, learner.prompts)]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert not any(each.requires_grad for each in after)


def test_a_pool_that_is_drawn_once_is_orthonormal_and_waits_for_its_tasks():
    learner, tasks = learner_of("coda_prompt", orthogonalized="once", **SMALL), tasks_of([2, 2, 2])
    learner.add_task(tasks[0])
    learner.begin_task(tasks[0], task_images(range(2)), TRAINING)
    rows = torch.cat(list(learner.prompts), 1).detach().flatten(2)
    identity = torch.eye(6, dtype=torch.float64).expand(2, 6, 6)
    assert torch.allclose(rows @ rows.transpose(1, 2), identity, atol=1e-12)
    fresh = learner_of("coda_prompt", orthogonalized="once", **SMALL)
    for index, task in enumerate(tasks):
        before = {name: tensor.clone() for name, tensor in fresh.state().items()}
        learn_task(fresh, task, task_images(range(2 * index, 2 * index + 2)), TRAINING)
        after = fresh.state()
        assert fresh.weights(0, torch.ones(1, 16, dtype=torch.float64)).shape == (1, 2 * index + 2)
        if index:
            changed = {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
            own = {f"{name}.{index}" for name in ("keys", "attention", "prompts")}
            assert changed == own | {"head.weight", "head.bias"}
    again = learner_of("coda_prompt", orthogonalized="once", **SMALL)
    again.load_state(fresh.state(), tasks)
    images = task_images(range(6)).images
    assert torch.equal(again.double().scores(images), fresh.scores(images))


def test_weights_are_cosines_of_the_attended_query_and_the_keys(learner):
    query = torch.randn(3, 16, dtype=torch.float64)
    with torch.no_grad():
        learner.keys[0][1, 0] = query[0] * learner.attention[0][1, 0]
    found = learner.weights(1, query).detach()
    keys, attention = learner.keys[0][1].detach(), learner.attention[0][1].detach()
    expected = torch.cosine_similarity(query[:, None] * attention, keys[None], dim=2)
    assert torch.allclose(found, expected, atol=1e-12)
    assert found[0, 0] == pytest.approx(1)


def test_components_of_zero_have_weights_and_gradients_of_zero(learner):
    with torch.no_grad():
        learner.attention[0].zero_()
        learner.keys[0][:, 0].zero_()
    weights = learner.weights(0, torch.randn(3, 16, dtype=torch.float64))
    weights.sum().backward()
    assert torch.equal(weights.detach(), torch.zeros(3, 2, dtype=torch.float64))
    assert learner.attention[0].grad.isfinite().all() and learner.keys[0].grad.isfinite().all()


def test_rows_of_the_head_of_earlier_classes_have_no_gradient(learner):
    learner.add_task(tasks_of([2, 2, 2])[1])
    images = task_images(range(2, 4))
    learner.loss(learner.extract_features(images.images), images.labels)[0].backward()
    assert learner.head.weight.grad[:2].abs().max() == 0
    assert learner.head.weight.grad[2:4].abs().max() > 0


def test_the_number_of_tasks_must_be_known_and_kept():
    learner = learner_of("coda_prompt", **SMALL)
    with pytest.raises(UserError, match="give their number, the setting tasks"):
        learner.add_task(tasks_of([2])[0].model_copy(update={"stream_tasks": None}))
    learner = learner_of("coda_prompt", tasks=1, **SMALL)
    first, second = tasks_of([2, 2])
    learner.add_task(first)
    with pytest.raises(UserError, match="6 components for 1 tasks; raise tasks or pool_size"):
        learner.add_task(second)


def test_an_odd_length_is_refused():
    with pytest.raises(ValidationError, match="prompt_length = 5 is odd"):
        learner_of("coda_prompt", prompt_length=5)


def test_a_block_that_is_named_twice_is_refused():
    with pytest.raises(UserError, match="the settings name block 1 twice"):
        learner_of("coda_prompt", blocks=(1, 0, 1))
