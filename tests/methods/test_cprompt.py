"""CPrompt: what a task may change, how tasks are chosen, and the loss on old heads."""

import pytest
import torch

from ntkcl.settings.models import Training
from ntkcl.tasks import tasks_of
from ntkcl.training.loop import learn_task
from tests.helpers.learners import learner_of, task_images

SMALL = dict(prompt_length=3, second_block=2)
TRAINING = Training(lr=0.05, epochs=2, batch_size=4, weight_decay=0.1)
TASKS = tasks_of([2, 3, 2])


def after(tasks: int, **settings):
    learner = learner_of("cprompt", **SMALL | settings)
    torch.manual_seed(1)
    for task in TASKS[:tasks]:
        learn_task(learner, task, task_images(range(task.first_class, task.classes_learned)), TRAINING)
    return learner


def test_keys_are_orthonormal_at_first():
    learner = learner_of("cprompt", **SMALL)
    learner.add_task(TASKS[0])
    assert learner.keys.shape == (7, 16)
    assert torch.allclose(learner.keys @ learner.keys.T, torch.eye(7, dtype=torch.float64), atol=1e-12)


def test_later_keys_are_orthogonal_to_those_before_as_far_as_the_width_allows():
    learner = learner_of("cprompt", **SMALL)
    for index, size in enumerate((10, 10)):
        task = TASKS[0].model_copy(
            update={"index": index, "first_class": 10 * index, "size": size, "stream_classes": None}
        )
        learner.add_task(task)
    keys = learner.keys.detach()
    assert torch.allclose(keys[:16] @ keys[:16].T, torch.eye(16, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(keys.norm(dim=1), torch.ones(20, dtype=torch.float64))


@pytest.mark.parametrize("keys", ["own", "all"])
def test_a_task_changes_its_own_keys_and_the_length_of_others_only_as_released(keys):
    learner = after(1, keys=keys)
    before = learner.keys.detach().clone()
    learn_task(learner, TASKS[1], task_images(range(2, 5)), TRAINING)
    others = torch.tensor([0, 1, 5, 6])
    assert not torch.allclose(torch.cosine_similarity(learner.keys, before)[2:5], torch.ones(3, dtype=torch.float64))
    assert torch.allclose(torch.cosine_similarity(learner.keys, before)[others], torch.ones(4, dtype=torch.float64))
    assert torch.equal(learner.keys[others], before[others]) == (keys == "own")


def test_prompts_and_heads_of_earlier_tasks_stay_and_new_ones_start_from_them():
    learner = after(1)
    kept = [learner.first_prompts[0], learner.second_prompts[0], learner.heads[0].weight, learner.heads[0].bias]
    before = [each.detach().clone() for each in kept]
    learner_copy = after(1)
    learner_copy.add_task(TASKS[1])
    assert torch.equal(learner_copy.first_prompts[1], before[0])
    learn_task(learner, TASKS[1], task_images(range(2, 5)), TRAINING)
    assert all(torch.equal(each, old) for each, old in zip(kept, before, strict=True))
    assert not any(each.requires_grad for each in kept)


def test_an_image_gets_the_prompts_of_the_task_of_its_nearest_key():
    learner = after(3)
    queries = torch.randn(7, 16, dtype=torch.float64)
    learner.keys.data = queries.clone()
    assert learner.choose(queries).tolist() == [0, 0, 1, 1, 1, 2, 2]


def test_the_loss_on_old_heads_pulls_nowhere_at_temperature_1_and_apart_above():
    features = torch.randn(4, 16, dtype=torch.float64, requires_grad=True)
    gradients = []
    for temperature in (1.0, 2.0):
        learner = after(2, temperature=temperature, margin=1e6)
        (gradient,) = torch.autograd.grad(learner._consistency(features), features)
        gradients.append(gradient.abs().max())
    assert gradients[0] < 1e-15 < gradients[1]


def test_sequences_grow_by_a_prompt_at_each_of_two_blocks():
    learner, lengths = after(1), []
    for block in learner.backbone.blocks:
        block.mlp.register_forward_hook(lambda module, inputs, output: lengths.append(output.shape[1]))
    learner.scores(task_images(range(2)).images)
    assert lengths == [5, 5, 1, 8, 8, 1]  # the query, then with prompts; the last block has the class token alone
