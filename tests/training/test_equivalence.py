"""Shortcuts of the computation give the same numbers as the plain way."""

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch.nn import functional as F

from ntkcl.backbones.vit_blocks import in_precision
from ntkcl.methods.adapter_finetuning import AdapterFineTuning
from ntkcl.methods.ntk_cl.learner import NTKCL
from ntkcl.methods.simplecil import SimpleCIL
from ntkcl.settings.models import Training
from ntkcl.tasks import tasks_of
from ntkcl.training.loop import learn_task
from tests.helpers.learners import task_images

SHAPE = dict(img_size=16, patch_size=8, in_chans=1, embed_dim=16, num_heads=2, num_classes=0)
VARIETIES = [
    dict(),
    dict(qk_norm=True),
    dict(init_values=0.3),
    dict(qkv_bias=False),
    dict(pre_norm=True),
    dict(reg_tokens=2),
]


def a_vit(depth: int = 3, **variety) -> VisionTransformer:
    """A ViT with random weights everywhere, so that no part of it is left out unnoticed."""
    torch.manual_seed(0)
    vit = VisionTransformer(**SHAPE, depth=depth, **variety).double()
    for parameter in vit.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return vit.requires_grad_(False).eval()


def a_learner(vit: VisionTransformer, **settings) -> NTKCL:
    torch.manual_seed(1)
    own = NTKCL.Settings(adapter_width=4, prompts=2, pretrained_part=True, **settings)
    learner = NTKCL(vit, own).double().eval()
    for name, parameter in learner.named_parameters():
        if not name.startswith("backbone."):
            torch.nn.init.normal_(parameter, std=0.3)
    return learner


def in_full(vit: VisionTransformer, images: torch.Tensor, adapters=None, prompts=None) -> torch.Tensor:
    """The feature of a branch with every token of every block, as the method is described."""
    tokens = vit.norm_pre(vit._pos_embed(vit.patch_embed(images)))
    for index, block in enumerate(vit.blocks):
        half = tokens + block.ls1(block.attn(block.norm1(tokens)))
        entering, residual = half, half
        if prompts:
            own, count = prompts[index], prompts[index].token_map.out_features
            image = half if index == 0 else torch.cat((half[:, :1], half[:, 1 + count :]), 1)
            tokens_of_prompts = own.norm(own.token_map(image.transpose(1, 2)).transpose(1, 2))
            if index:
                tokens_of_prompts = tokens_of_prompts + prompts.scale * half[:, 1 : 1 + count]
            else:
                residual = torch.cat((half[:, :1], torch.zeros_like(tokens_of_prompts), half[:, 1:]), 1)
            entering = torch.cat((image[:, :1], tokens_of_prompts, image[:, 1:]), 1)
        tokens = residual + block.ls2(block.mlp(block.norm2(entering)))
        if adapters:
            adapter = adapters[index]
            tokens = tokens + adapter.scale * adapter.up(F.relu(adapter.down(half)))
    return vit.norm(tokens[:, 0])


@pytest.mark.parametrize("variety", VARIETIES)
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_all_branches_equal_the_vit_with_every_token_computed(depth, variety):
    learner = a_learner(a_vit(depth, **variety))
    vit, images = learner.backbone, task_images(range(3)).images
    channel, patch = learner.extract_features(images)
    branches = [learner.previous_adapters, learner.current_adapters]
    sections = [in_full(vit, images), *(in_full(vit, images, adapters=b.channel) for b in branches)]
    assert torch.allclose(channel, torch.cat(sections, 1), atol=1e-12)
    sections[1:] = [in_full(vit, images, prompts=b.patch) for b in branches]
    assert torch.allclose(patch, torch.cat(sections, 1), atol=1e-12)
    assert torch.allclose(sections[0], vit(images), atol=1e-12)


@pytest.mark.parametrize("batches", [2, 3, 100])
def test_several_batches_in_one_frozen_pass_change_no_number(batches):
    states = []
    for number in (1, batches):
        learner = a_learner(a_vit(), adapter_dropout=0, fusion_dropout=0)
        torch.manual_seed(2)
        for task in tasks_of([2, 3]):
            images = task_images(range(task.first_class, task.classes_learned))
            learn_task(learner, task, images, Training(lr=0.01, epochs=2, batch_size=3), batches_per_frozen_pass=number)
        states.append(learner.state())
    assert all(torch.allclose(value, states[1][name], atol=1e-12) for name, value in states[0].items())


def test_parameters_that_the_loss_does_not_reach_decay():
    """As where every gradient is there: the last block's prompts, and the attention's query and key."""
    learner = a_learner(a_vit(), regularization_weight=0, adapter_dropout=0)
    names = ("current_adapters.patch.2.norm.bias", "fusion.query.weight")
    before = {name: learner.state()[name].clone() for name in names}
    training = Training(lr=0.1, epochs=1, batch_size=100, weight_decay=0.1)
    learn_task(learner, tasks_of([2])[0], task_images(range(2)), training)
    assert all(torch.allclose(learner.state()[name], before[name] * (1 - 0.1 * 0.1)) for name in names)
    assert all(parameter.grad is None for parameter in learner.parameters())


@pytest.mark.parametrize("kind", [NTKCL, AdapterFineTuning, SimpleCIL])
def test_bfloat16_is_near_and_all_but_the_vit_keeps_its_precision(kind):
    vit = a_vit().float()
    given = {name: tensor.clone() for name, tensor in vit.state_dict().items()}
    scores, (task,), images = [], tasks_of([3]), task_images(range(3))
    images = type(images)(images.images.float(), images.labels, images.device)
    for precision in ("float32", "bfloat16"):
        torch.manual_seed(4)
        learner = kind(in_precision(vit, precision), kind.Settings())
        learn_task(learner, task, images, Training(lr=0.01, epochs=2, batch_size=6))
        learner.eval()
        assert all(feature.dtype == torch.float32 for feature in learner.extract_features(images.images))
        assert all(tensor.dtype == torch.float32 for tensor in learner.state().values())
        scores.append(learner.scores(images.images).detach())
        assert learner.autocast()._enabled == (precision == "bfloat16")
    assert all(torch.equal(tensor, given[name]) for name, tensor in vit.state_dict().items())
    difference = (scores[0] - scores[1]).abs().max() / scores[0].abs().max()
    assert 0 < difference < 0.05
