"""OVOR: phases of a task, and outliers outside the features."""

import pytest
import torch
import torch.nn.functional as F

from ntkcl.peft.outliers import kth_distances, outliers_around, outliers_of_noise
from ntkcl.settings.models import Training
from ntkcl.tasks import tasks_of
from ntkcl.training.loop import learn_task
from tests.helpers.learners import learner_of, task_images

SMALL = dict(general_length=4, expert_length=4, neighbours=3, boundary_points=2, draws=6, outliers_per_class=2)
FIRST, SECOND = tasks_of([2, 2])


def training(epochs: int) -> Training:
    return Training(optimizer="adam", lr=0.01, epochs=epochs, batch_size=4, schedule="lagging_cosine", weight_decay=0.1)


def learned(task=FIRST, epochs: int = 3, learner=None, **settings):
    """A learner after `task`, and the log."""
    learner = learner or learner_of("ovor", 6, **SMALL | settings)
    torch.manual_seed(1)
    log = learn_task(learner, task, task_images(range(task.first_class, task.classes_learned)), training(epochs))
    return learner, log


def test_epochs_with_outliers_change_the_head_alone():
    before, _ = learned(epochs=2, outlier_epochs=0)
    after, _ = learned(epochs=2, outlier_epochs=0)
    assert torch.equal(before.general, after.general)
    with_outliers, log = learned(epochs=4, outlier_epochs=2)
    plain, _ = learned(epochs=4, outlier_epochs=0)
    energies = [row[log.columns.index("huber_images")] for row in log.rows]
    assert not any(energies[:4]) and all(value > 0 for value in energies[4:])
    assert not torch.equal(with_outliers.general, plain.general)  # two epochs fewer
    assert not torch.equal(with_outliers.head.weight, plain.head.weight)


def test_prefixes_stay_while_there_are_outliers():
    learner = learner_of("ovor", 6, **SMALL | {"outlier_epochs": 1})
    seen = []
    begin_epoch = learner.begin_epoch
    learner.begin_epoch = lambda images: (seen.append(learner.general.detach().clone()), begin_epoch(images))[1]
    learned(learner=learner, epochs=3)
    assert not torch.equal(seen[0], seen[1]) and not torch.equal(seen[1], seen[2])
    assert torch.equal(seen[2], learner.general)


def test_a_warm_up_trains_the_head_alone_and_the_first_task_has_none():
    learner, log = learned(epochs=4, warm_up_epochs=2, outlier_epochs=0)
    assert log.rows[-1][1] == 2  # epochs
    before = learner.general.detach().clone()
    learner.epochs_of = lambda task, training: 2
    learned(SECOND, learner=learner, epochs=2)
    assert learner.phases == ["warm_up"] * 2
    assert torch.equal(learner.general, before)
    assert learner.head.weight[2:].abs().sum() > 0


def test_without_energies_beyond_the_limits_the_loss_is_the_cross_entropy():
    _, log = learned(image_energy=1e6, outlier_energy=-1e6, outlier_epochs=2)
    rows = [dict(zip(log.columns, row, strict=True)) for row in log.rows]
    assert all(row["total"] == row["cross_entropy"] for row in rows)


def test_described_outliers_lie_around_boundary_points_and_are_distinct():
    torch.manual_seed(0)
    features = F.normalize(torch.randn(40, 8, dtype=torch.float64), dim=1)
    features[0] = -features[1:].mean(0) / features[1:].mean(0).norm()
    noise = 0.1 * torch.randn(12, 8, dtype=torch.float64)
    found = outliers_around(features, noise, 5, 3)
    assert len(found.unique(dim=0)) == 12
    assert (torch.cdist(found, features).min(1)[0] < 1).all()
    distances = kth_distances(F.normalize(found, dim=1), features, 5)
    assert torch.equal(distances, distances.sort(descending=True)[0])
    assert distances.mean() > kth_distances(features, features, 6).mean()


def test_released_outliers_are_copies_of_the_noise():
    features, noise = torch.randn(20, 8), 0.1 * torch.randn(6, 8)
    found = outliers_of_noise(features, noise, 5, 4)
    assert len(found) == 24 and len(found.unique(dim=0)) == 6
    assert torch.equal(found[0], found[3])


@pytest.mark.parametrize("choose", [outliers_of_noise, outliers_around])
def test_fewer_features_than_neighbours(choose):
    assert choose(torch.randn(3, 8), torch.randn(5, 8), 50, 50).isfinite().all()


def test_the_number_of_outliers_is_at_most_that_of_the_setting():
    learner, _ = learned(outlier_epochs=1)
    assert len(learner.outliers) <= SMALL["outliers_per_class"] * 2
