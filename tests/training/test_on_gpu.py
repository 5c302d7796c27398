"""What only a GPU can show; skipped where there is none (`benchmarks/gpu.sh` runs it)."""

import pytest
import torch

from ntkcl.backbones.vit_blocks import in_precision
from ntkcl.data.loading.gpu_images import GpuImages
from ntkcl.methods.ntk_cl.learner import NTKCL
from ntkcl.settings.models import Training
from ntkcl.training.checkpoint import Checkpoints
from ntkcl.training.loop import _Training, learn_task
from tests.helpers.interruptions import (
    FIRST,
    METADATA,
    SECOND,
    InterruptedImages,
    Killed,
    kill,
    new_learner,
    noise_images,
)

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


def on_gpu(images):
    """The same images, decoded once and cropped on the GPU."""
    from dataclasses import replace

    return GpuImages.from_images(replace(images, device=torch.device("cuda")), 10**9)


def test_training_on_a_gpu_is_training_on_a_cpu(monkeypatch):
    randperm = torch.randperm  # on a GPU the loss draws from the GPU's generator, so that later batches would differ
    monkeypatch.setattr(torch, "randperm", lambda n, device=None: randperm(n).to(device or "cpu"))
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # torch's default for convolutions rounds to 10 bits
    states = {}
    for device in ("cpu", "cuda"):
        learner, training = new_learner("ntk_cl", dropout=False)
        learner.to(device)
        for task in (FIRST, SECOND):
            torch.manual_seed(task.index)
            images = noise_images(task) if device == "cpu" else on_gpu(noise_images(task))
            learn_task(learner, task, images, training, batches_per_frozen_pass=1 if device == "cpu" else 3)
        states[device] = learner.state()
    for name, tensor in states["cpu"].items():
        assert torch.allclose(tensor, states["cuda"][name], rtol=1e-2, atol=1e-3), name


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_host_waits_for_nothing_inside_a_step(precision):
    learner, training = new_learner("ntk_cl")
    learner = NTKCL(in_precision(learner.backbone, precision), learner.settings).cuda()
    learn_task(learner, FIRST, on_gpu(noise_images(FIRST)), training)
    learner.add_task(SECOND)
    learner.begin_task(SECOND, on_gpu(noise_images(SECOND)), training)
    steps = _Training(learner, SECOND, training, None, 2, None)
    learner.train()
    groups = on_gpu(noise_images(SECOND)).train_batches(5)
    first, second = next(groups), next(groups)
    try:
        for mode in (0, "error"):  # the first time, kernels are loaded
            torch.cuda.set_sync_debug_mode(mode)
            for frozen, labels in steps._frozen_batches((first, second)):
                steps._step(frozen, labels)
    finally:
        torch.cuda.set_sync_debug_mode(0)


def test_a_stopped_task_goes_on_with_the_gpus_random_state(tmp_path):
    states = []
    for ends in (False, True):
        learner, training = new_learner("ntk_cl")
        learner.cuda()
        torch.manual_seed(0)
        checkpoints = Checkpoints(tmp_path / "c", METADATA, {}, 0)
        images = on_gpu(noise_images(FIRST))
        if ends:
            with pytest.raises(Killed):
                learn_task(learner, FIRST, InterruptedImages(images, 4, kill), training, checkpoints=checkpoints)
            learner, training = new_learner("ntk_cl")
            learner.cuda()
            torch.manual_seed(0)
        log = learn_task(learner, FIRST, images, training, checkpoints=checkpoints)
        checkpoints.delete()
        states.append(torch.tensor(log.rows))
    assert torch.allclose(*states, rtol=1e-4, equal_nan=True)  # sums on a GPU come in any order


def test_bfloat16_is_what_training_takes_by_itself():
    from ntkcl.devices.compute import precision_on

    assert precision_on(torch.device("cuda"), Training().precision) == "bfloat16"
