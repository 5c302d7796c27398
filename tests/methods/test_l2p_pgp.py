"""L2P-PGP: projections of gradients, and the growth of their bases."""

from itertools import pairwise

import pytest
import torch

from ntkcl.peft.gradient_memory import GradientMemory, principal_scores
from ntkcl.settings.models import Training
from ntkcl.tasks import tasks_of
from ntkcl.training.loop import learn_task
from tests.helpers.learners import learner_of, task_images

SMALL = dict(pool_size=4, prompt_length=2, top_k=2, prompt_components=3, key_components=2)
ADAM = Training(optimizer="adam", lr=0.01, epochs=1, batch_size=4, schedule="constant", weight_decay=0, clip_norm=1)
SGD = Training(lr=0.1, epochs=1, batch_size=4, schedule="constant", weight_decay=0, momentum=0)
TASKS = tasks_of([2, 2, 2])


def after(tasks: int, method: str = "l2p_pgp", training: Training = ADAM, **settings):
    learner = learner_of(method, **SMALL | settings)
    torch.manual_seed(1)
    for task in TASKS[:tasks]:
        learn_task(learner, task, task_images(range(task.first_class, task.classes_learned)), training)
    return learner


@pytest.mark.parametrize("space", ["features", "images"])
def test_projections_are_idempotent_and_grow_by_at_most_the_components(space):
    learner, columns = learner_of("l2p_pgp", space=space, **SMALL), []
    for task in TASKS:
        learn_task(learner, task, task_images(range(task.first_class, task.classes_learned)), ADAM)
        columns.append((learner.of_prompts.columns, learner.of_keys.columns))
        for memory in (learner.of_prompts, learner.of_keys):
            projector = memory.projector()
            assert torch.allclose(projector @ projector, projector, atol=1e-10)
            assert torch.linalg.matrix_rank(projector) == memory.columns
    for before, now in pairwise(columns):
        assert 0 <= now[0] - before[0] <= 3 and 0 <= now[1] - before[1] <= 2
    assert space == "images" or columns[0][0] > 0


def test_gradients_have_no_part_in_the_old_span_and_with_sgd_neither_have_updates():
    learner = after(1, training=SGD)
    old = learner.of_prompts.projector().clone(), learner.of_keys.projector().clone()
    before = learner.pool.prompts.detach().clone(), learner.pool.keys.detach().clone()
    learn_task(learner, TASKS[1], task_images(range(2, 4)), SGD)
    for now, then, projector in zip((learner.pool.prompts, learner.pool.keys), before, old, strict=True):
        change = now.detach() - then
        assert change.norm() > 0
        assert (change @ projector).norm() < 1e-10 * change.norm()


def test_without_directions_it_is_l2p():
    empty = dict(prompt_threshold=0.0, key_threshold=0.0, space="images")
    learner = after(2, **empty)
    assert (learner.of_prompts.columns, learner.of_keys.columns) == (0, 0)
    assert learner.projectors[0].abs().max() == 0


def test_the_first_task_stays_below_the_threshold_and_later_ones_reach_it():
    memory = GradientMemory(6, 0.9)
    rows = torch.diag(torch.tensor([8.0, 7, 6, 5, 4, 3]).sqrt())[:, :5]
    memory.grow(rows, is_first=True)
    energies = torch.tensor([64.0, 49, 36, 25, 16])
    shares = energies.cumsum(0) / energies.sum()
    assert memory.columns == int((shares < 0.9).sum())
    memory.grow(rows, is_first=False)
    assert shares[memory.columns - 1] >= 0.9 > shares[memory.columns - 2]
    columns = memory.columns
    memory.grow(rows, is_first=False)
    assert memory.columns == columns


def test_principal_scores_are_those_of_a_covariance_with_positive_extremes():
    rows = torch.randn(9, 5, dtype=torch.float64)
    scores = principal_scores(rows, 3)
    centered = rows - rows.mean(0)
    values = torch.linalg.eigvalsh(centered.T @ centered).flip(0)[:3]
    assert torch.allclose(scores.square().sum(0), values)
    assert (scores.gather(0, scores.abs().argmax(0, keepdim=True)) > 0).all()
