"""DualPrompt: each task trains its own row, and predictions use the rows of learned tasks."""

import pytest
import torch

from ntkcl.errors import UserError
from ntkcl.settings.models import Training
from ntkcl.tasks import tasks_of
from ntkcl.training.loop import learn_task
from tests.helpers.learners import learner_of, task_images

SMALL = dict(pool_size=4, general_blocks=(0,), expert_blocks=(1, 2))
TRAINING = Training(optimizer="adam", lr=0.01, epochs=1, batch_size=4, schedule="constant", weight_decay=0, clip_norm=1)


@pytest.fixture
def after_first():
    learner = learner_of("dualprompt", **SMALL)
    first, *_ = tasks_of([2, 2, 2])
    learn_task(learner, first, task_images(range(2)), TRAINING)
    return learner


def test_a_task_changes_its_own_row_and_key_alone(after_first):
    expert, keys = after_first.expert.detach().clone(), after_first.keys.detach().clone()
    learn_task(after_first, tasks_of([2, 2, 2])[1], task_images(range(2, 4)), TRAINING)
    changed = [row for row in range(4) if not torch.equal(after_first.expert[:, :, row], expert[:, :, row])]
    assert changed == [row for row in range(4) if not torch.equal(after_first.keys[row], keys[row])] == [1]


def test_a_row_starts_from_the_row_before_and_its_key_does_not(after_first):
    second = tasks_of([2, 2, 2])[1]
    after_first.add_task(second)
    after_first.begin_task(second, task_images(range(2, 4)), TRAINING)
    assert torch.equal(after_first.expert[:, :, 1], after_first.expert[:, :, 0])
    assert not torch.equal(after_first.keys[1], after_first.keys[0])


@pytest.mark.parametrize("search,rows", [("learned", {0}), ("pool", {0, 3})])
def test_only_keys_of_learned_tasks_are_compared_by_default(after_first, search, rows):
    after_first.settings = after_first.settings.model_copy(update={"search": search})
    queries = after_first.backbone_forward(task_images(range(2)).images)[1]
    with torch.no_grad():
        after_first.keys[3] = queries[0]
    assert set(after_first.choose(queries).tolist()) | {0} == rows


def test_prefixes_do_not_lengthen_the_sequence_and_empty_ones_change_nothing(after_first):
    images = task_images(range(2)).images
    _, query = frozen = after_first.backbone_forward(images)
    with torch.no_grad():
        after_first.general, after_first.expert = (
            torch.nn.Parameter(each[..., :0, :]) for each in (after_first.general, after_first.expert)
        )
    assert torch.allclose(after_first.features(frozen)[0], query, atol=1e-12)


def test_mixed_prefixes_depend_on_the_batch():
    learner, images = learner_of("dualprompt", mixed=True, **SMALL), task_images(range(2)).images
    learner.add_task(tasks_of([2])[0])
    with torch.no_grad():
        learner.head.weight.normal_()
    together, alone = learner.scores(images), torch.cat([learner.scores(image[None]) for image in images])
    assert not torch.allclose(together, alone, atol=1e-6)


def test_blocks_that_the_backbone_does_not_have_are_refused():
    with pytest.raises(UserError, match="the settings name block 4, and the backbone has 3"):
        learner_of("dualprompt")
