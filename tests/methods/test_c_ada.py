"""C-ADA, our reading: units are added to adapters, old ones stay, and new ones begin orthogonal to them."""

from itertools import pairwise

import torch
from torch.nn import functional as F

from ntkcl.backbones.vit_blocks import first_block, plain_feature
from ntkcl.peft.continual_adapter import GrowingAdapter
from ntkcl.settings.models import Training
from ntkcl.tasks import tasks_of
from ntkcl.training.loop import learn_task
from tests.helpers.learners import learn, learner_of, task_images

SMALL = dict(blocks=(0, 2), attention_width=3, mlp_width=2, adapter_scale=1.0)
TRAINING = Training(optimizer="adam", lr=0.05, epochs=2, batch_size=4, schedule="constant", weight_decay=0)


def test_a_first_task_starts_at_the_frozen_network():
    learner, images = learner_of("c_ada", **SMALL), task_images(range(2)).images
    learner.add_task(tasks_of([2])[0])
    plain = plain_feature(learner.backbone, first_block(learner.backbone, images))
    assert torch.allclose(learner.extract_features(images)[0], plain, atol=1e-12)


def test_an_adapter_is_the_sum_of_the_tasks_adapters():
    adapter, tokens = GrowingAdapter(8, 2, 0.5).double(), torch.randn(3, 4, 8, dtype=torch.float64)
    for _ in range(3):
        adapter.grow()
        torch.nn.init.normal_(adapter.up)
    parts = zip(
        torch.cat((adapter.old_down, adapter.down)).split(2),
        torch.cat((adapter.old_up, adapter.up), 1).split(2, 1),
        strict=True,
    )
    expected = sum(0.5 * F.linear(F.linear(tokens, down).relu(), up) for down, up in parts)
    assert torch.allclose(adapter(tokens), expected, atol=1e-12)


def test_new_units_are_orthogonal_to_old_ones_while_there_is_room():
    adapter = GrowingAdapter(6, 2, 1.0).double()
    for _ in range(3):
        adapter.grow()
        assert torch.allclose(adapter.down @ adapter.down.T, torch.eye(2).double(), atol=1e-12)
        assert (adapter.down @ adapter.old_down.T).abs().sum() < 1e-12
        assert adapter.overlap() < 1e-12
    adapter.grow()
    assert torch.allclose(adapter.down.norm(dim=1), torch.ones(2).double())


def test_later_tasks_change_neither_old_units_nor_scales_and_shifts():
    learner = learner_of("c_ada", **SMALL)
    states, logs = learn(learner, (2, 3, 2), TRAINING)
    for before, after in pairwise(states):
        assert all(torch.equal(tensor, after[name]) for name, tensor in before.items() if ".input." in name)
        for adapter in ("adapters.0.attention", "adapters.2.mlp"):
            for name, dimension in (("down", 0), ("up", 1)):
                old, new = before[f"{adapter}.old_{name}"], before[f"{adapter}.{name}"]
                assert torch.equal(after[f"{adapter}.old_{name}"], torch.cat((old, new), dimension))
    assert not torch.equal(states[0]["adapters.0.attention.input.scale"], torch.ones(16))
    column = logs[1].columns.index("orthogonality")
    assert logs[1].rows[0][column] < 1e-6 < logs[1].rows[-1][column]


def test_the_loss_has_the_weighted_overlap():
    learner = learner_of("c_ada", **SMALL | {"orthogonality_weight": 3.0})
    for task in tasks_of([2, 2]):
        log = learn_task(learner, task, task_images(range(task.first_class, task.classes_learned)), TRAINING)
    row = dict(zip(log.columns, log.rows[-1], strict=True))
    assert abs(row["total"] - row["cross_entropy"] - 3.0 * row["orthogonality"]) < 1e-9
