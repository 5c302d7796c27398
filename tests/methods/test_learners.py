"""Properties of the learners that hold for any numbers; what every method must do is in test_contract.py."""

import itertools

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from ntkcl.backbones.vit_blocks import first_block, plain_feature
from ntkcl.data.loading.task_stream import ArrayImages
from ntkcl.errors import UserError
from ntkcl.methods.ntk_cl.learner import NTKCL
from ntkcl.methods.simplecil import SimpleCIL
from ntkcl.settings.models import Training
from ntkcl.tasks import tasks_of
from ntkcl.training.loop import learn_task
from tests.helpers.learners import CPU, finetuning, learn, ntk_cl, small_vit, task_images


def test_untrained_channel_branch_is_the_plain_vit():
    learner, images = ntk_cl(pretrained_part=True), task_images(range(2)).images
    plain = plain_feature(learner.backbone, first_block(learner.backbone, images))
    sections = learner.eval().extract_features(images)[0].chunk(3, dim=1)
    assert all(torch.allclose(section, plain, atol=1e-12) for section in sections)


def test_attention_over_one_key_is_the_value_map():
    fusion = ntk_cl().eval().fusion
    channel, patch = torch.randn(2, 5, 32, dtype=torch.float64)
    expected = channel + 0.1 * patch + 0.5 * fusion.value(channel)
    assert torch.allclose(fusion(channel, patch), expected, atol=1e-12)


def test_prompts_of_the_last_block_have_no_effect():
    learner, images = ntk_cl().eval(), task_images(range(2)).images
    before = learner.extract_features(images)[1]
    torch.nn.init.normal_(learner.current_adapters.patch[-1].norm.bias)
    assert torch.equal(learner.extract_features(images)[1], before)
    torch.nn.init.normal_(learner.current_adapters.patch[0].norm.bias)
    assert not torch.allclose(learner.extract_features(images)[1], before)


def test_patch_prompts_learn_only_their_bias():
    learner = ntk_cl()
    learn(learner)
    for prompt in list(learner.current_adapters.patch)[:-1]:
        assert (prompt.token_map.weight == 0).all()
        assert (prompt.norm.weight == 0).all()
        assert (prompt.norm.bias != 0).any()


def test_previous_copy_is_the_mean_over_tasks_but_the_last():
    states, _ = learn(ntk_cl(), sizes=(2, 2, 2, 2))
    name = "channel.1.up.weight"
    copies = [state[f"current_adapters.{name}"] for state in states]
    for count in (1, 2, 3):
        mean = torch.stack(copies[:count]).mean(0)
        assert torch.allclose(states[count - 1][f"previous_adapters.{name}"], mean, atol=1e-12)
    assert torch.equal(states[3][f"previous_adapters.{name}"], states[2][f"previous_adapters.{name}"])


def test_previous_copy_can_be_the_last_tasks():
    states, _ = learn(ntk_cl(previous_adapters="last"))
    assert torch.equal(
        states[1]["previous_adapters.channel.1.up.weight"], states[1]["current_adapters.channel.1.up.weight"]
    )


@pytest.mark.parametrize("make", [ntk_cl, lambda: SimpleCIL(small_vit(), SimpleCIL.Settings()).double()])
def test_earlier_prototypes_never_change(make):
    states, _ = learn(make())
    assert torch.equal(states[0]["prototypes"], states[2]["prototypes"][:2])
    assert (states[2]["prototypes"].norm(dim=1) > 0).all()


WEIGHTS = {
    "ce_channel": "channel_weight",
    "ce_patch": "patch_weight",
    "ce_hybrid": "hybrid_weight",
    "info_nce": "info_nce_weight",
    "dissimilarity": "dissimilarity_weight",
    "regularization": "regularization_weight",
}


@pytest.mark.parametrize("term", WEIGHTS)
def test_each_term_can_be_switched_off(term):
    _, logs = learn(ntk_cl(**{WEIGHTS[term]: 0}))
    for log in logs:
        assert set(log.columns[4:]) == set(WEIGHTS) - {term}


def test_total_is_the_weighted_sum_with_info_nce_maximized():
    weights = dict(info_nce_weight=0.2, dissimilarity_weight=0.3, regularization_weight=0.4, channel_weight=0.5)
    _, logs = learn(ntk_cl(**weights))
    signs = {"ce_channel": 0.5, "ce_patch": 1, "ce_hybrid": 1, "info_nce": -0.2, "dissimilarity": 0.3}
    for log in logs:
        for row in log.rows:
            values = dict(zip(log.columns, row, strict=True))
            expected = sum(weight * values[name] for name, weight in signs.items()) + 0.4 * values["regularization"]
            assert values["total"] == pytest.approx(expected, rel=1e-12)


def test_regularization_starts_at_zero_in_every_task():
    _, logs = learn(ntk_cl())
    column = logs[0].columns.index("regularization")
    assert [log.rows[0][column] for log in logs] == [0, 0, 0]


def test_a_batch_without_a_pair_counts_as_zero_or_stops():
    training = Training(lr=0.05, epochs=1, batch_size=1)
    _, logs = learn(ntk_cl(), training=training)
    assert logs[0].undefined() == {"info_nce": 8}
    with pytest.raises(UserError, match=r"not finite at task 0, epoch 1, step 0 .*info_nce nan"):
        learn(ntk_cl(undefined_terms="error"), training=training)


def test_info_nce_sees_as_many_earlier_prototypes_as_the_batch_size():
    """They are sampled in each step, without replacement."""
    batches = []
    learner = ntk_cl()
    original = learner._info_nce.__func__.__globals__["info_nce"]

    def watch(features, labels, temperature):
        batches.append(labels.tolist())
        return original(features, labels, temperature)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ntkcl.methods.ntk_cl.learner.info_nce", watch)
        learn(learner, sizes=(6, 2), training=Training(lr=0.05, epochs=3, batch_size=4))
    sampled = [labels[4:] for labels in batches if len(labels) == 8]
    assert len(sampled) == 6
    assert all(len(set(labels)) == 4 and max(labels) < 6 for labels in sampled)
    assert len({tuple(labels) for labels in sampled}) > 1


def test_inference_feature_changes_scores_alone():
    states = {feature: learn(ntk_cl(inference_feature=feature))[0][2] for feature in ("hybrid", "channel")}
    assert all(torch.equal(value, states["channel"][name]) for name, value in states["hybrid"].items())


def test_dropout_of_the_previous_branch_is_a_setting():
    assert ntk_cl().train().previous_adapters.channel[0].dropout.training
    assert not ntk_cl(previous_adapters_dropout=False).train().previous_adapters.channel[0].dropout.training
    assert not ntk_cl().train().backbone.training


def test_inference_uses_the_sections_weights():
    learner = ntk_cl(pretrained_part=True, inference_weights=(1, 0, 0)).eval()
    learn(learner)
    images = task_images(range(3), seed=9).images
    frozen = learner.scores(images)
    torch.nn.init.normal_(learner.current_adapters.channel[0].up.weight)
    # the first section of the hybrid feature depends on the trained ones only through the fusion's value map
    learner.fusion.attention_weight = 0
    apart = learner.scores(images)
    torch.nn.init.normal_(learner.previous_adapters.channel[0].up.weight)
    assert torch.equal(apart, learner.scores(images))
    assert frozen.shape == apart.shape == (12, 7)


@pytest.mark.parametrize(("classes", "touched"), [("learned", True), ("task", False)])
def test_head_rows_of_earlier_classes_learn_only_from_all_seen_classes(classes, touched):
    learner = finetuning(classes=classes)
    first, second = tasks_of([2, 3])
    learner.add_task(first)
    learner.add_task(second)
    learner.double()
    images = task_images(range(2, 5))
    learner.loss(learner.extract_features(images.images), images.labels)[0].backward()
    assert (learner.head.weight.grad[:2] != 0).any() == touched
    assert (learner.head.weight.grad[2:] != 0).any()


def test_simplecil_does_not_depend_on_the_order_of_tasks_or_duplicates():
    images = task_images(range(4), seed=3)
    prototypes = {}
    for sizes, repeat in itertools.product(([4], [1, 3], [2, 2]), (1, 2)):
        learner = SimpleCIL(small_vit(), SimpleCIL.Settings()).double()
        for task in tasks_of(sizes):
            inside = (images.labels >= task.first_class) & (images.labels < task.classes_learned)
            rows = inside.nonzero()[:, 0].repeat(repeat)
            learn_task(learner, task, ArrayImages(images.images[rows], images.labels[rows], CPU), Training())
        prototypes[tuple(sizes), repeat] = learner.prototypes
    first = prototypes[(4,), 1]
    assert all(torch.allclose(other, first, atol=1e-12) for other in prototypes.values())


def test_a_class_without_images_is_an_error():
    learner = SimpleCIL(small_vit(), SimpleCIL.Settings()).double()
    with pytest.raises(ValueError, match="no image of class 1"):
        learn_task(learner, tasks_of([2])[0], task_images(range(1)), Training())


@pytest.mark.parametrize(("count", "batch", "epochs"), [(8, 4, 2), (9, 4, 3), (3, 16, 1)])
def test_number_of_steps_and_learning_rates(count, batch, epochs):
    images = task_images(range(1), per_class=count)
    log = learn_task(finetuning(), tasks_of([1])[0], images, Training(batch_size=batch, epochs=epochs, lr=0.1))
    assert len(log.rows) == -(-count // batch) * epochs
    assert log.rows[0][2] == 0.1
    assert log.rows[-1][2] == pytest.approx(0.05 * (1 + torch.tensor(torch.pi * (epochs - 1) / epochs).cos().item()))


def test_first_task_can_have_its_own_schedule():
    _, logs = learn(finetuning(), training=Training(lr=0.1, first_lr=0.2, epochs=1, first_epochs=3, batch_size=100))
    assert [log.rows[0][2] for log in logs] == [0.2, 0.1, 0.1]
    assert [len(log.rows) for log in logs] == [3, 1, 1]


def test_a_loss_that_is_not_finite_stops_with_its_place():
    with pytest.raises(UserError, match=r"the loss is not finite at task 0, epoch \d, step \d+ .*lower lr"):
        learn(finetuning(), training=Training(lr=1e30, epochs=4, batch_size=4))


def test_state_holds_nothing_of_the_backbone_and_comes_back():
    states, _ = learn(ntk_cl())
    assert not [name for name in states[2] if "backbone" in name or "attn" in name]
    fresh = NTKCL(small_vit(), NTKCL.Settings(adapter_width=4, prompts=2))
    fresh.load_state(states[2], tasks_of([2, 3, 2]))
    assert all(torch.equal(value, states[2][name].float()) for name, value in fresh.state().items())


def test_a_backbone_without_class_token_is_refused():
    shape = dict(img_size=16, patch_size=8, in_chans=1, embed_dim=16, depth=1, num_heads=2, num_classes=0)
    vit = VisionTransformer(**shape, class_token=False, global_pool="avg")
    with pytest.raises(UserError, match="no class token"):
        SimpleCIL(vit, SimpleCIL.Settings())
    with pytest.raises(UserError, match="pools its tokens"):
        SimpleCIL(VisionTransformer(**shape, global_pool="avg"), SimpleCIL.Settings())
