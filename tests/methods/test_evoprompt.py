"""EvoPrompt: alignment, averaging, first head rows, and where prompts are."""

import pytest
import torch

from ntkcl.errors import UserError
from ntkcl.peft.optimal_transport import transport_plan
from ntkcl.settings.models import Training
from ntkcl.tasks import tasks_of
from ntkcl.training.loop import learn_task
from tests.helpers.learners import learner_of, task_images

SMALL = dict(hidden=6, prompt_length=2)
TRAINING = Training(
    optimizer="adam", lr=0.02, epochs=2, batch_size=4, schedule="constant", weight_decay=0, clip_norm=1.0
)
FIRST, SECOND = tasks_of([2, 2])


def learned(tasks=(FIRST,), learner=None, training=TRAINING, **settings):
    """A learner after `tasks`, and its trained memory before the end of the last one."""
    learner = learner or learner_of("evoprompt", **SMALL | settings)
    kind, trained = type(learner), []

    def end_task(task, images):
        trained[:] = [learner.inner.detach().clone(), learner.outer.detach().clone()]
        kind.end_task(learner, task, images)

    learner.end_task = end_task
    torch.manual_seed(1)
    for task in tasks:
        learn_task(learner, task, task_images(range(task.first_class, task.classes_learned)), training)
    return learner, trained


def test_a_weight_is_transported_to_itself():
    rows = torch.randn(200, 6, dtype=torch.float64)
    assert torch.allclose(transport_plan(rows, rows), torch.eye(200, dtype=torch.float64), atol=1e-4)


def test_exchanged_rows_are_brought_back():
    rows, order = torch.randn(50, 6, dtype=torch.float64), torch.randperm(50)
    assert torch.allclose(transport_plan(rows[order], rows).T @ rows[order], rows, atol=1e-4)


def test_rows_of_zero_have_a_plan():
    rows = torch.randn(5, 3, dtype=torch.float64)
    rows[0] = 0
    assert transport_plan(rows, rows.flip(0)).isfinite().all()


def test_exchanged_hidden_nodes_make_the_same_prompts_after_alignment():
    learner, _ = learned()
    order = torch.randperm(6)
    learner.before = learner.inner.detach().clone(), learner.outer.detach().clone()
    with torch.no_grad():
        learner.inner.copy_(learner.inner[:, order])
        learner.outer.copy_(learner.outer[:, :, order])
        for block in range(3):
            for aligned, before in zip(learner.aligned(block)[1], learner.before, strict=True):
                assert torch.allclose(aligned, before[block], rtol=1e-3, atol=1e-6)


def test_the_first_task_keeps_its_trained_memory_and_the_second_lies_between_two():
    learner, trained = learned()
    assert torch.equal(learner.inner, trained[0]) and torch.equal(learner.outer, trained[1])
    before = learner.inner.detach().clone()
    learner, trained = learned((SECOND,), learner)
    learner.inner.data, learner.outer.data, merged = trained[0], trained[1], learner.inner.detach().clone()
    for block in range(3):
        aligned = learner.aligned(block)[1][0].detach()
        shares = (merged[block] - before[block]) / (aligned - before[block])
        assert torch.allclose(shares, shares[:, :1], atol=1e-6)  # a node has one share
        assert (shares >= 0).all() and (shares <= 1).all()


def test_nodes_that_are_used_alike_are_averaged():
    learner, _ = learned()
    before = learner.inner.detach().clone()
    unused = torch.zeros_like(learner.inner_attribution), torch.zeros_like(learner.outer_attribution)
    learner.inner_attribution, learner.outer_attribution = unused
    learner.activations = lambda images: unused
    learner, trained = learned((SECOND,), learner)
    merged, learner.inner.data, learner.outer.data = learner.inner.detach().clone(), *trained
    for block in range(3):
        assert torch.allclose(merged[block], (before[block] + learner.aligned(block)[1][0]) / 2, atol=1e-12)


def test_a_new_class_like_an_old_one_starts_with_its_head_row():
    learner = learner_of("evoprompt", **SMALL, group_temperature=1e-4)
    learner.add_task(FIRST)
    old = torch.randn(2, 16, dtype=torch.float64)
    assert torch.allclose(learner.composed_rows(3 * old.flip(0), old), learner.head.weight[:2].flip(0), atol=1e-9)


def test_without_one_image_that_is_right_all_images_count():
    learner, _ = learned(training=TRAINING.model_copy(update={"epochs": 1}))
    with torch.no_grad():
        learner.head.bias[3] = 1e6
    images = task_images(range(2))
    used = learner.activations(images)
    nodes = learner.nodes(learner.frozen_forward(images.images)[1])
    for each, values in zip(used, nodes, strict=True):
        assert torch.allclose(each, values.relu().mean(1))
    learner, _ = learned((SECOND,), learner)
    assert learner.inner.isfinite().all() and learner.outer.isfinite().all()


def test_outputs_stay_in_their_places_if_only_hidden_nodes_are_aligned():
    learner, _ = learned((FIRST, SECOND), align_outputs=False)
    plans, (_, outer) = learner.aligned(0)
    assert torch.equal(plans[1], torch.eye(32, dtype=torch.float64))
    assert torch.equal(outer, learner.outer[0] @ plans[0])


def test_sequences_grow_by_a_prompt_in_each_block():
    learner, lengths = learned()[0], []
    for block in learner.backbone.blocks:
        block.mlp.register_forward_hook(lambda module, inputs, output: lengths.append(output.shape[1]))
    learner.scores(task_images(range(2)).images)
    assert lengths == [5, 5, 1, 7, 9, 1]  # the query, then with prompts; the last block has the class token alone


def test_groups_that_do_not_divide_the_features_are_refused():
    with pytest.raises(UserError, match="groups of 5 coordinates, and features have 16"):
        learner_of("evoprompt", group_width=5)
