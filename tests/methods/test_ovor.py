"""OVOR: phases of a task, and outliers outside the features."""

import pytest
import torch
import torch.nn.functional as F

from ntkcl.peft.outliers import POINTS_AT_ONCE, kth_distances, outliers_around, outliers_of_noise
from ntkcl.settings.models import Training
from ntkcl.tasks import tasks_of
from ntkcl.training.loop import learn_task
from tests.helpers.interruptions import OPTIMIZERS
from tests.helpers.learners import learner_of, task_images

SMALL = dict(general_length=4, expert_length=4, neighbours=3, boundary_points=2, draws=6, outliers_per_class=2)
FIRST, SECOND = tasks_of([2, 2])


def training(epochs: int, optimizer: str) -> Training:
    rest = dict(lr=0.01, batch_size=4, schedule="lagging_cosine", weight_decay=0.1)
    return Training(optimizer=optimizer, epochs=epochs, **rest)


def learned(task=FIRST, epochs: int = 3, learner=None, optimizer: str = "adam", **settings):
    """A learner after `task`, and the log."""
    learner = learner or learner_of("ovor", 6, **SMALL | settings)
    torch.manual_seed(1)
    images = task_images(range(task.first_class, task.classes_learned))
    return learner, learn_task(learner, task, images, training(epochs, optimizer))


def test_epochs_with_outliers_are_the_last():
    _, log = learned(epochs=4, outlier_epochs=2)
    energies = [row[log.columns.index("huber_images")] for row in log.rows]
    assert not any(energies[:4]) and all(value > 0 for value in energies[4:])


def states_at_epochs(learner) -> list[dict[str, torch.Tensor]]:
    """What the learner has at the beginning of each epoch, filled while it learns."""
    seen, begin_epoch = [], learner.begin_epoch

    def begin(images):
        seen.append({name: tensor.clone() for name, tensor in learner.state().items()})
        return begin_epoch(images)

    learner.begin_epoch = begin
    return seen


def changes(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}


HEAD = {"head.weight", "head.bias"}


def test_prefixes_stay_while_there_are_outliers():
    learner = learner_of("ovor", 6, **SMALL | {"outlier_epochs": 1})
    seen = states_at_epochs(learner)
    learned(learner=learner, epochs=3)
    assert changes(seen[0], seen[1]) == changes(seen[1], seen[2]) == HEAD | {"general", "expert"}
    assert changes(seen[2], learner.state()) == HEAD


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_warm_up_trains_the_head_alone_and_the_first_task_has_none(optimizer):
    learner = learner_of("ovor", 6, **SMALL | {"warm_up_epochs": 2, "outlier_epochs": 0})
    seen = states_at_epochs(learner)
    learned(learner=learner, optimizer=optimizer, epochs=4)
    assert len(seen) == 2 and changes(*seen) == HEAD | {"general", "expert"}
    learned(SECOND, learner=learner, optimizer=optimizer, epochs=3)
    assert changes(seen[2], seen[3]) == changes(seen[3], seen[4]) == HEAD
    assert changes(seen[4], learner.state()) == HEAD | {"general", "expert"}


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_one_epoch_trains_the_prefixes_however_few_there_are(epochs):
    learner, _ = learned(epochs=epochs, warm_up_epochs=2, outlier_epochs=3)
    before = learner.state()["general"].clone()
    learned(SECOND, learner=learner, epochs=epochs)
    assert learner.phases == ["warm_up"] * (epochs - 1) + ["normal"]
    assert not torch.equal(learner.general, before)


def test_without_energies_beyond_the_limits_the_loss_is_the_cross_entropy():
    _, log = learned(image_energy=1e6, outlier_energy=-1e6, outlier_epochs=2)
    rows = [dict(zip(log.columns, row, strict=True)) for row in log.rows]
    assert all(row["total"] == row["cross_entropy"] for row in rows)


def test_described_outliers_are_the_farthest_of_all_boundary_points_with_all_noise():
    torch.manual_seed(0)
    features = 3 * torch.randn(40, 8, dtype=torch.float64)
    noise = 0.1 * torch.randn(12, 8, dtype=torch.float64)
    unit = F.normalize(features, dim=1)
    alone = torch.cdist(unit, unit).sort(1)[0][:, 5]
    boundary = features[alone.sort(descending=True)[1][:3]]
    candidates = (boundary[:, None] + noise).flatten(0, 1)
    distances = torch.cdist(F.normalize(candidates, dim=1), unit).sort(1)[0][:, 4]
    expected = candidates[distances.sort(descending=True)[1]]
    for count in (20, 36, 50):
        found = outliers_around(features, noise, 5, 3, count)
        assert torch.allclose(found, expected[:count])
        assert len(found.unique(dim=0)) == len(found) == min(count, 36)


def test_released_outliers_are_copies_of_the_noise():
    features, noise = torch.randn(20, 8), 0.1 * torch.randn(6, 8)
    found = outliers_of_noise(features, noise, 5, 4, 100)
    assert len(found) == 24 and len(found.unique(dim=0)) == 6
    assert torch.equal(found[0], found[3])


@pytest.mark.parametrize("choose", [outliers_of_noise, outliers_around])
def test_fewer_features_than_neighbours(choose):
    for features in (torch.randn(3, 8), torch.randn(1, 8)):
        assert choose(features, torch.randn(5, 8), 50, 50, 100).isfinite().all()


def test_distances_of_many_points_are_taken_in_parts():
    torch.manual_seed(0)
    points, features = torch.randn(2 * POINTS_AT_ONCE + 1, 4).double(), torch.randn(6, 4).double()
    expected = torch.cdist(points, features).square().sort(1)[0][:, 2]
    assert torch.allclose(kth_distances(points, features, 3), expected)


def test_the_number_of_outliers_is_at_most_that_of_the_setting():
    learner, _ = learned(outlier_epochs=1)
    assert len(learner.outliers) <= SMALL["outliers_per_class"] * 2
