"""VPT-NSP: updates leave attention to old images as it is, and statistics do not depend on batches."""

import pytest
import torch

from ntkcl.backbones.vit_blocks import attention_residual, mlp_branch
from ntkcl.peft.null_space import null_space_map
from ntkcl.peft.token_prefix import token_prefix
from ntkcl.settings.models import Training
from ntkcl.tasks import tasks_of
from ntkcl.training.loop import learn_task
from tests.helpers.learners import learner_of, task_images

TRAINING = Training(optimizer="adam", lr=0.01, epochs=1, batch_size=4, schedule="constant", weight_decay=0)


def test_the_map_leaves_nothing_of_directions_before_a_cliff():
    directions = torch.linalg.qr(torch.randn(12, 3, dtype=torch.float64))[0]
    rows = torch.tensor([12.0, 11, 10], dtype=torch.float64)[:, None] * directions.T
    found, size = null_space_map(rows.T @ rows, 1.0)
    assert size == 9
    assert (rows @ found).norm() < 1e-12 * rows.norm()
    assert found.norm() == pytest.approx(1)
    assert (null_space_map(rows.T @ rows, 0.9)[0] - 0.9 * found).allclose(0.1 * torch.eye(12, dtype=torch.float64))


def test_prompts_of_the_second_task_move_by_projected_steps_alone():
    learner = learner_of("vpt_nsp", feature_share=1.0, token_share=1.0)
    first, second = tasks_of([2, 2])
    learn_task(learner, first, task_images(range(2)), TRAINING)
    before = learner.prompts.detach().clone()
    learn_task(learner, second, task_images(range(2, 4)), TRAINING)
    change = learner.prompts.detach() - before
    features, tokens = (maps / maps.norm(dim=(1, 2), keepdim=True) for maps in learner.maps)
    for each, feature, token in zip(change, features, tokens, strict=True):
        onto = (torch.linalg.pinv(token) @ token) @ each @ (feature @ torch.linalg.pinv(feature))
        assert each.norm() > 0
        assert torch.allclose(onto, each, atol=1e-10)


def test_covariances_do_not_depend_on_batches():
    first = tasks_of([3, 2])[0]
    found = []
    for size in (3, 12):
        learner, images = learner_of("vpt_nsp"), task_images(range(3))
        eval_batches = images.eval_batches
        object.__setattr__(images, "eval_batches", lambda size=size, batches=eval_batches: batches(size))
        torch.manual_seed(0)
        learn_task(learner, first, images, TRAINING)
        found.append(learner.feature_covariances)
    assert found[0].abs().sum() > 0
    assert torch.allclose(*found, atol=1e-12)


def test_tokens_attend_to_prompts_whose_own_outputs_are_dropped():
    """So a block equals timm's block on all tokens, without the prompts' outputs."""
    learner, vit = learner_of("vpt_nsp"), learner_of("vpt_nsp").backbone
    tokens = torch.randn(2, 5, 16, dtype=torch.float64)
    prompts = torch.randn(3, 16, dtype=torch.float64)
    together = vit.blocks[1](torch.cat((tokens, prompts.expand(2, -1, -1)), 1))[:, :5]
    half = attention_residual(learner.backbone, 1, tokens, prefix=token_prefix(learner.backbone, 1, prompts))
    assert torch.allclose(half + mlp_branch(learner.backbone, 1, half), together, atol=1e-12)
    assert not torch.allclose(vit.blocks[1](tokens), together)


def test_the_loss_on_prompts_is_zero_where_they_are_those_of_the_task_before():
    learner = learner_of("vpt_nsp")
    first, second = tasks_of([2, 2])
    learn_task(learner, first, task_images(range(2)), TRAINING)
    log = learn_task(learner, second, task_images(range(2, 4)), TRAINING)
    steps = [dict(zip(log.columns, row, strict=True)) for row in log.rows]
    assert steps[0]["prompt_mean"] == steps[0]["prompt_std"] == 0
    assert steps[-1]["prompt_mean"] > 0 and steps[-1]["prompt_std"] > 0


@pytest.mark.parametrize("reuse", [True, False])
def test_the_second_head_starts_from_the_first_only_as_released(reuse):
    learner = learner_of("vpt_nsp", reuse_first_head=reuse)
    for task in tasks_of([2, 2]):
        learner.add_task(task)
    assert torch.equal(learner.heads[0].weight, learner.heads[1].weight) == reuse
