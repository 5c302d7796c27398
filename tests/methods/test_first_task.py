"""RanPAC and APER: the first task alone trains, and heads are closed forms of all images seen."""

import pytest
import torch
from torch.nn import functional as F

from ntkcl.backbones.vit_blocks import first_block, plain_feature
from ntkcl.errors import UserError
from ntkcl.peft.ridge_head import ridge_head, ridge_losses, sound_ridges
from ntkcl.peft.scale_shift import ScaleShifts
from ntkcl.settings.models import Training
from ntkcl.tasks import tasks_of
from ntkcl.training.loop import learn_task
from tests.helpers.learners import learn, learner_of, small_vit, task_images

SIZES = (2, 3, 2)
TRAINING = Training(lr=0.1, epochs=1, batch_size=4)


@pytest.mark.parametrize("method", ["ranpac", "aper"])
@pytest.mark.parametrize("module", ["adapter", "scale_shift", "none"])
def test_only_the_first_task_changes_the_module(method, module):
    learner = learner_of(method, module=module)
    before = {name: tensor.clone() for name, tensor in learner.state().items()}
    states, logs = learn(learner, SIZES, TRAINING)
    names = [name for name in before if name.startswith("module")]
    assert [len(log.rows) for log in logs] == ([0, 0, 0] if module == "none" else [2, 0, 0])
    assert (module == "none") == (not names)
    assert all(not torch.equal(states[0][name].to(before[name]), before[name]) for name in names)
    assert all(torch.equal(states[0][name], states[2][name]) for name in names)


def test_scales_of_one_and_shifts_of_zero_change_nothing():
    vit, images = small_vit(), task_images(range(2)).images
    changes = ScaleShifts(vit, std=0.0).double()
    assert torch.allclose(changes.feature(vit, vit.patch_embed(images)), plain_feature(vit, first_block(vit, images)))


def test_aper_compares_both_features_as_one_vector():
    learner = learner_of("aper")
    learn(learner, SIZES, TRAINING)
    images = task_images(range(7))
    adapted, plain = learner.extract_features(images.images)
    assert not torch.allclose(adapted, plain)
    both = torch.cat((plain, adapted), 1)
    means = torch.stack([both[images.labels == label].mean(0) for label in range(7)])
    cosines = F.normalize(both, dim=1) @ F.normalize(means, dim=1).T
    assert torch.allclose(learner.scores(images.images)[:, :2], cosines[:, :2], atol=1e-8)


def test_the_head_is_the_ridge_regression_on_all_images():
    learner, parts = learner_of("ranpac", ridges=(10.0,)), []
    torch.manual_seed(1)
    for task in tasks_of(list(SIZES)):
        parts.append(task_images(range(task.first_class, task.classes_learned)))
        learn_task(learner, task, parts[-1], TRAINING)
    images, labels = torch.cat([part.images for part in parts]), torch.cat([part.labels for part in parts])
    hidden = learner.hidden(learner.extract_features(images)[0])
    ridge = 10.0 * torch.eye(hidden.shape[1], dtype=torch.float64)
    head = torch.linalg.solve(hidden.T @ hidden + ridge, hidden.T @ F.one_hot(labels).double())
    assert torch.allclose(learner.scores(images), hidden @ head, atol=1e-9)


def test_the_order_of_tasks_does_not_change_the_head():
    heads = []
    for order in ([0, 1, 2], [0, 2, 1]):
        learner, first = learner_of("ranpac", module="none", ridges=(1.0,)), 0
        for index, part in enumerate(order):
            task = tasks_of([2, 2, 2])[index]
            images = task_images(range(2 * part, 2 * part + 2))
            learn_task(learner, task, type(images)(images.images, images.labels % 2 + first, images.device), TRAINING)
            first += 2
        heads.append(learner.head)
    assert torch.allclose(heads[0], heads[1][[0, 1, 4, 5, 2, 3]], atol=1e-10)


def test_ridge_head_by_hand():
    gram, sums = torch.eye(2), torch.eye(2)
    assert torch.allclose(ridge_head(gram, sums, 1.0), torch.eye(2) / 2)
    assert torch.equal(gram, torch.eye(2))


def test_sums_that_no_ridge_makes_positive_are_refused():
    with pytest.raises(UserError, match="ridges"):
        ridge_head(-torch.eye(2), torch.eye(2), 0.5)


@pytest.mark.parametrize("rows", [12, 60])
def test_errors_of_ridges_are_those_of_heads_fitted_to_the_first_rows(rows):
    """With fewer and with more rows than columns."""
    hidden, targets = torch.randn(rows, 20).double().relu(), torch.randn(rows, 3).double()
    fitted, ridges = int(0.8 * rows), (0.1, 10.0)
    found = ridge_losses(hidden, targets, fitted, ridges)
    for ridge, loss in zip(ridges, found, strict=True):
        gram = hidden[:fitted].T @ hidden[:fitted] + ridge * torch.eye(20).double()
        head = torch.linalg.solve(gram, hidden[:fitted].T @ targets[:fitted])
        assert torch.allclose(loss, (hidden[fitted:] @ head - targets[fitted:]).square().mean(), rtol=1e-9)


def test_ridges_below_the_rounding_of_the_sums_are_not_chosen():
    gram = torch.full((4, 4), 1e6)  # of norm 4e6, rounded to 0.5
    assert sound_ridges(gram, (1e-8, 1e-3, 1.0, 10.0)) == [1.0, 10.0]
    assert sound_ridges(gram.double(), (1e-8, 1e-3, 1.0, 10.0)) == [1e-8, 1e-3, 1.0, 10.0]
    assert sound_ridges(gram, (1e-8, 1e-3)) == [1e-3]


def test_a_task_with_a_single_image_has_a_finite_head():
    learner = learner_of("ranpac")
    learn_task(learner, tasks_of([1])[0], task_images(range(1), per_class=1), TRAINING)
    assert learner.head.isfinite().all() and learner.head.any()
