"""EASE: subspaces stay, prototypes of old classes in new ones are synthesized, and each subspace is computed once."""

import math
from itertools import pairwise

import pytest
import torch
from torch.nn import functional as F

from ntkcl.peft.adapters import Adapters
from ntkcl.peft.heads import prototype_scores
from ntkcl.settings.models import Training
from ntkcl.tasks import tasks_of
from ntkcl.training.loop import learn_task
from tests.helpers.learners import learn, learner_of, task_images

SIZES = (2, 3, 1)
TRAINING = Training(lr=0.1, epochs=1, batch_size=4)


def learned(**settings):
    learner = learner_of("ease", adapter_width=4, **settings)
    return learner, *learn(learner, SIZES, TRAINING)


def test_a_task_leaves_the_subspaces_of_earlier_ones_as_they_are():
    _, states, _ = learned()
    for before, after in pairwise(states):
        assert all(torch.equal(after[name], each) for name, each in before.items() if name.startswith("adapter_sets"))


def test_prototypes_of_new_classes_are_class_means_in_every_subspace():
    learner, _, _ = learned()
    task, images = tasks_of(list(SIZES))[-1], task_images(range(5, 6))
    means = learner.extract_features(images.images)[0].mean(0)
    assert torch.allclose(learner.prototypes[task.first_class], means, atol=1e-12)


def test_a_part_is_the_softmax_mean_of_parts_of_new_classes():
    """One new class is like the old one in the old subspace, the three others are orthogonal to it."""
    learner = learner_of("ease")
    first, second = tasks_of([1, 4])
    learner.add_task(first)
    learner.add_task(second)
    dim = learner.backbone.embed_dim
    learner.prototypes[:, :dim] = torch.eye(dim).double()[[0, 0, 1, 2, 3]]
    learner.prototypes[1:, dim:] = torch.randn(4, dim, dtype=torch.float64)
    learner._synthesize(first, second)
    weights = torch.tensor([math.e, 1, 1, 1], dtype=torch.float64) / (math.e + 3)
    assert torch.allclose(learner.prototypes[0, dim:], weights @ learner.prototypes[1:, dim:], atol=1e-12)


def test_synthesis_of_the_newest_subspace_leaves_the_others_as_they_are():
    dim = 16
    old_parts = []
    for synthesis in ("all", "newest"):
        _, states, _ = learned(synthesis=synthesis)
        before, after = (states[index]["prototypes"][:2, dim : 2 * dim] for index in (1, 2))
        old_parts.append(torch.equal(before, after))
    assert old_parts == [False, True]


def test_the_first_task_has_plain_cosines():
    learner = learner_of("ease", adapter_width=4)
    images = task_images(range(2))
    learn_task(learner, tasks_of([2, 2])[0], images, TRAINING)
    features = learner.extract_features(images.images)[0]
    cosines = F.normalize(features, dim=1) @ F.normalize(learner.prototypes, dim=1).T
    assert torch.allclose(learner.scores(images.images), cosines, atol=1e-12)


@pytest.mark.parametrize("weight", [0.0, 0.1])
def test_other_subspaces_count_with_their_mean(weight):
    learner, _, _ = learned(other_subspaces=weight)
    images, dim = task_images(range(6)).images, 16
    both = zip(learner.extract_features(images)[0].split(dim, 1), learner.prototypes.split(dim, 1), strict=True)
    parts = [prototype_scores(feature, prototypes) for feature, prototypes in both]
    expected = parts[1] + weight * (parts[0] + parts[2]) / 2
    assert torch.allclose(learner.scores(images)[:, 2:5], expected[:, 2:5], atol=1e-12)


def test_each_task_has_as_many_proxies_as_classes():
    learner, _, _ = learned()
    assert learner.proxies.weight.shape == (1, 16)


def test_all_states_together_pass_an_image_through_each_subspace_once(monkeypatch):
    learners, images = [], task_images(range(6), per_class=1).images
    for index, state in enumerate(learned()[1]):
        learners.append(learner_of("ease", adapter_width=4))
        learners[-1].load_state(state, tasks_of(list(SIZES))[: index + 1])
    calls, feature = [], Adapters.feature
    monkeypatch.setattr(Adapters, "feature", lambda *arguments: calls.append(1) or feature(*arguments))
    learners[0].scores_of_states([each.double().eval() for each in learners], images)
    assert len(calls) == 3
