"""What the settings of NTK-CL that ablations turn do, one by one."""

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from ntkcl.classifier import Classifier
from ntkcl.errors import UserError
from ntkcl.methods.learner import class_means
from ntkcl.runs import resolve
from ntkcl.settings.models import Training
from ntkcl.tasks import tasks_of
from ntkcl.training.loop import learn_task
from ntkcl.training.parts import stream_of
from ntkcl.training.train import train_task
from tests.helpers.learners import CPU, learn, ntk_cl, small_vit, task_images

TRAINING = Training(lr=0.05, epochs=2, batch_size=4)


def test_attention_with_one_key_and_its_value_map_alone_learn_the_same():
    (*_, attention), _ = learn(ntk_cl())
    (*_, value), _ = learn(ntk_cl(fusion="value"))
    assert not any("query" in name or "key" in name for name in value)
    for name, tensor in value.items():
        assert torch.equal(tensor, attention[name]), name


@pytest.mark.parametrize(("alone", "other"), [("channel", "patch"), ("patch", "channel")])
def test_a_subnetwork_alone_does_not_see_the_other(alone, other):
    learner, images = ntk_cl(fusion=alone, channel_weight=0, patch_weight=0), task_images(range(4)).images
    learn(learner, sizes=(2, 2))
    scores = learner.scores(images)
    for parameter in getattr(learner.current_adapters, other).parameters():
        torch.nn.init.normal_(parameter)
    assert torch.equal(learner.scores(images), scores)
    for parameter in getattr(learner.current_adapters, alone).parameters():
        torch.nn.init.normal_(parameter)
    assert not torch.allclose(learner.scores(images), scores)


@pytest.mark.parametrize("fusion", ["sum", "gated", "mlp"])
def test_every_fusion_learns_and_comes_back_from_its_state(fusion):
    learner, images = ntk_cl(fusion=fusion), task_images(range(4)).images
    states, _ = learn(learner, sizes=(2, 2))
    again = ntk_cl(fusion=fusion)
    again.load_state(states[-1], tasks_of([2, 2]))
    assert torch.allclose(again.double().eval().scores(images), learner.eval().scores(images))


def test_gate_is_between_the_two_features():
    fusion = ntk_cl(fusion="gated").fusion
    channel, patch = torch.randn(2, 5, 32, dtype=torch.float64)
    hybrid = fusion(channel, patch)
    assert (hybrid <= torch.maximum(channel, patch)).all() and (hybrid >= torch.minimum(channel, patch)).all()


def test_prompts_started_alive_begin_at_nothing_and_learn_everything():
    learner = ntk_cl(prompt_init="trainable").eval()
    dead = ntk_cl().eval()
    images = task_images(range(2)).images
    assert torch.allclose(learner.extract_features(images)[1], dead.extract_features(images)[1])
    start = {name: tensor.clone() for name, tensor in learner.current_adapters.patch[0].named_parameters()}
    learn(learner)
    assert all(
        not torch.equal(start[name], tensor) for name, tensor in learner.current_adapters.patch[0].named_parameters()
    )


def test_without_a_previous_section_there_is_one_less():
    learner = ntk_cl(previous_adapters="none")
    states, _ = learn(learner)
    assert learner.dim == 16 and not any(name.startswith("previous") for name in states[-1])
    assert ntk_cl(previous_adapters="none", pretrained_part=True).dim == 32


def test_previous_copy_can_be_a_decaying_mean():
    states, _ = learn(ntk_cl(previous_adapters="decay", previous_adapters_decay=0.75), sizes=(2, 2, 2))
    name = "channel.1.up.weight"
    assert torch.equal(states[0][f"previous_adapters.{name}"], states[0][f"current_adapters.{name}"])
    expected = 0.75 * states[0][f"current_adapters.{name}"] + 0.25 * states[1][f"current_adapters.{name}"]
    assert torch.allclose(states[1][f"previous_adapters.{name}"], expected, atol=1e-12)


def test_dissimilarity_as_a_squared_norm_is_what_lies_outside_the_earlier_prototypes_span():
    learner, (first, second) = ntk_cl(dissimilarity="squared_norm"), tasks_of([2, 3])
    torch.manual_seed(1)
    logs = [learn_task(learner, task, task_images(range(task.first_class, task.classes_learned)), TRAINING)
            for task in (first, second)]  # fmt: skip
    assert logs[0].rows[0][logs[0].columns.index("dissimilarity")] == pytest.approx(2 * 4)  # no span yet: whole norms
    learner.begin_task(second, task_images(range(2, 5)), TRAINING)
    features, labels = learner.extract_features(task_images(range(2, 5)).images), task_images(range(2, 5)).labels
    value = learner.loss(features, labels)[1]["dissimilarity"].item()
    span = torch.linalg.qr(F.normalize(learner.prototypes[:2], dim=1).T)[0]
    outside = [rows - rows @ span @ span.T for rows in (F.normalize(f, dim=1) for f in features)]
    assert value == pytest.approx(sum(rows.square().sum().item() for rows in outside))
    assert 0 < value < 2 * len(labels)


def test_regularization_by_absolute_values():
    learner = ntk_cl(regularization="l1")
    learn(learner, sizes=(2,))
    learner.begin_task(tasks_of([2])[0], task_images(range(2)), TRAINING)
    with torch.no_grad():
        learner.current_adapters.channel[0].up.weight[0, 0] += 0.5
        learner.current_adapters.channel[0].down.weight[0, 0] -= 0.25
        learner.current_adapters.channel[0].up.bias[0] += 1  # biases do not count
    terms = learner.loss(learner.extract_features(task_images(range(2)).images), task_images(range(2)).labels)[1]
    assert terms["regularization"].item() == pytest.approx(0.75)


def test_an_oracle_takes_all_class_means_again_and_refuses_without_old_images():
    learner, tasks = ntk_cl(prototypes="recomputed"), tasks_of([2, 2])
    images = [task_images(range(task.first_class, task.classes_learned)) for task in tasks]
    torch.manual_seed(1)
    learn_task(learner, tasks[0], images[0], TRAINING)
    old = learner.prototypes[:2].clone()
    with pytest.raises(UserError, match="an oracle"):
        learn_task(learner, tasks[1], images[1], TRAINING)
    learn_task(learner, tasks[1], images[1], TRAINING, earlier=[(tasks[0], images[0])])
    features = (
        (learner.fusion(*learner.extract_features(batch)), labels) for batch, labels in images[0].eval_batches()
    )
    assert torch.allclose(learner.prototypes[:2], class_means(features, tasks[0]))
    assert not torch.allclose(learner.prototypes[:2], old)


def test_the_pipeline_gives_an_oracle_its_old_images(tiny):
    with (tiny / "params/methods/ntk_cl.yaml").open("a") as file:
        file.write("variants: {oracle: {settings: {prototypes: recomputed}}}\n")
    run = resolve("digits", "vit_tiny", "ntk_cl/oracle", 0)
    for task in range(len(run.tasks)):
        train_task(run, task, CPU)
    kept, taken_again = (load_file(path)["learner/prototypes"] for path in (run.state_path(0), run.state_path(1)))
    assert not torch.equal(taken_again[: len(kept)], kept)


def test_own_images_have_no_oracle():
    with pytest.raises(UserError, match="is an oracle"):
        Classifier(small_vit().float(), settings={"prototypes": "recomputed"}, device="cpu")


def test_leaving_out_infonce_changes_no_draw():
    draws = []
    for weight in (0.03, 0):
        learner, images = ntk_cl(info_nce_weight=weight), task_images(range(2, 4))
        learn(learner, sizes=(2,))
        torch.manual_seed(3)
        learn_task(learner, tasks_of([2, 2])[1], images, TRAINING)
        draws.append(torch.rand(3))
    assert torch.equal(*draws)


def test_a_share_of_each_class_is_learned_from_and_a_smaller_one_is_part_of_it(tiny):
    used = {}
    for share in (1.0, 0.5, 0.1, 1e-6):
        run = resolve("digits", "vit_tiny", "ntk_cl", 0)
        object.__setattr__(run, "training", run.training.model_copy(update={"train_fraction": share}))
        stream = stream_of(run)
        images = [stream.train_images(task, CPU) for task in run.tasks]
        used[share] = {name for part in images for name in part.ids}
        assert set(torch.cat([part.labels for part in images]).tolist()) == set(range(10))
    assert used[1e-6] < used[0.1] < used[0.5] < used[1.0]
    assert len(used[1e-6]) == 10 and abs(len(used[0.5]) - len(used[1.0]) / 2) <= 5


def test_training_on_the_first_task_alone_leaves_the_rest_to_prototypes():
    states, logs = learn(ntk_cl(), training=Training(lr=0.05, epochs=0, first_epochs=2, batch_size=4))
    assert logs[0].rows and not logs[1].rows
    assert torch.equal(
        states[0]["current_adapters.channel.1.up.weight"], states[2]["current_adapters.channel.1.up.weight"]
    )
    assert (states[2]["prototypes"].norm(dim=1) > 0).all()
