"""InfLoRA: branches cannot change what old inputs become, spaces are orthonormal, too few directions are refused."""

import pytest
import torch

from ntkcl.errors import UserError
from ntkcl.peft.activation_space import ActivationSpace
from ntkcl.settings.models import Training
from ntkcl.tasks import tasks_of
from ntkcl.training.loop import learn_task
from tests.helpers.learners import learn, learner_of, task_images

SIZES = (2, 3, 2)
TRAINING = Training(optimizer="adam", lr=0.05, epochs=2, batch_size=4, schedule="constant", weight_decay=0)
D = 16


def learned(**settings):
    learner = learner_of("inflora", **{"rank": 3} | settings)
    learn(learner, SIZES, TRAINING)
    return learner


def covariance(*shares: float) -> torch.Tensor:
    """A covariance whose singular values have these squares, the others none."""
    directions = torch.linalg.qr(torch.randn(D, D, dtype=torch.float64))[0][:, : len(shares)]
    return directions * torch.tensor(shares, dtype=torch.float64).sqrt() @ directions.T


@pytest.mark.parametrize("projection", ["left", "both"])
def test_a_new_branch_sees_nothing_of_old_inputs(projection):
    learner = learner_of("inflora", rank=3, projection=projection)
    first, second = tasks_of([2, 2])
    learn_task(learner, first, task_images(range(2)), TRAINING)
    spaces = [space.basis.clone() for space in learner.spaces]
    assert not any(space.is_allowed for space in learner.spaces)
    learn_task(learner, second, task_images(range(2, 4)), TRAINING)
    for index, basis in enumerate(spaces):
        down = learner.down[index, 3:]
        assert torch.allclose(down @ down.T, torch.eye(3).double() / 3, atol=1e-12)
        assert basis.any() and (down @ basis).abs().max() < 1e-12
        assert learner.key[index].any()
        old_input = basis @ torch.randn(D, dtype=torch.float64)
        without = learner.old_key[index] @ learner.down[index, :3] @ old_input
        branches = torch.cat((learner.old_key[index], learner.key[index]), 1) @ learner.down[index]
        assert torch.allclose(branches @ old_input, without, atol=1e-12)


def test_merged_weights_give_what_branches_give():
    learner, images = learned(), task_images(range(7)).images
    with torch.no_grad():
        merged = learner.scores(images)
    apart = learner.scores(images)  # with gradients, the last branch is computed by itself
    assert apart.requires_grad and not merged.requires_grad
    assert torch.allclose(merged, apart, atol=1e-12)


def test_spaces_are_orthonormal():
    for space in learned(first_share=0.99).spaces:
        basis = space.basis[:, : space.columns]
        assert 0 < space.columns < D
        assert torch.allclose(basis.T @ basis, torch.eye(int(space.columns)).double(), atol=1e-10)
        assert not space.basis[:, int(space.columns) :].any()


def test_the_first_inputs_take_one_direction_fewer_than_the_share_needs():
    space = ActivationSpace(D).double()
    space.add(covariance(0.5, 0.3, 0.2), 0.6, True)
    assert space.columns == 1


def test_later_inputs_add_directions_until_the_share_is_explained():
    space = ActivationSpace(D).double()
    old, new = torch.zeros(D, D).double(), torch.zeros(D, D).double()
    old[0, 0] = 1.0
    new[1, 1], new[2, 2], new[3, 3] = (torch.tensor([0.5, 0.3, 0.2]).double()).sqrt()
    space.add(old, 0.9, True)
    space.add(new, 0.6, False)
    projector = space.basis @ space.basis.T
    assert torch.allclose(projector, torch.diag(torch.tensor([1.0, 1, 1] + [0] * 13).double()), atol=1e-12)


def test_more_than_half_of_the_directions_are_kept_as_the_other_ones():
    space, inputs = ActivationSpace(D).double(), covariance(*[1 / 12] * 12)
    space.add(inputs, 0.99, True)
    assert space.is_allowed and space.columns == D - 11
    assert (space.basis.T @ inputs).norm() < 0.3 * inputs.norm()
    assert space.free_directions() == D - 11
    space.add(covariance(1.0), 0.99, False)
    assert space.is_allowed and space.columns == D - 12
    plain = ActivationSpace(D, switches=False).double()
    plain.add(inputs, 0.99, True)
    assert not plain.is_allowed and plain.columns == 11


def test_too_few_directions_without_old_inputs_are_refused():
    learner = learner_of("inflora", rank=12, first_share=1.0)
    first, second = tasks_of([2, 2])
    learn_task(learner, first, task_images(range(2), per_class=9), TRAINING)
    with pytest.raises(UserError, match="lower rank"):
        learn_task(learner, second, task_images(range(2, 4)), TRAINING)
