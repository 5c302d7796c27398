"""Every method on a GPU; skipped where there is none (`benchmarks/gpu.sh` runs it)."""

import pytest
import torch

from ntkcl.backbones.vit_blocks import in_precision
from ntkcl.data.loading.batches import ArrayImages
from ntkcl.registry import METHODS
from ntkcl.settings.models import Training
from ntkcl.tasks import tasks_of
from ntkcl.training.loop import learn_task
from tests.helpers.learners import DEPTH, SMALLER, small_vit, task_images

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"),
    pytest.mark.parametrize("method", METHODS.names()),
]
SIZES = [2, 3, 2]
TRAINING = Training(lr=0.01, epochs=2, batch_size=7)


def learned(method, device, precision="float32"):
    """A learner that has learned three tasks, and scores of their images."""
    kind = METHODS.load(method)
    without_dropout = {name: 0.0 for name in kind.Settings.model_fields if name.endswith("_dropout")}
    vit = in_precision(small_vit(DEPTH).float(), precision)
    torch.manual_seed(5)
    learner = kind(vit, kind.Settings(**SMALLER.get(method, {}) | without_dropout)).to(device)
    for task in tasks_of(SIZES):
        images = task_images(range(task.first_class, task.classes_learned))
        on_device = ArrayImages(images.images.float(), images.labels, torch.device(device))
        torch.manual_seed(task.index)
        learn_task(learner, task, on_device, TRAINING)
    return learner, learner.scores(task_images(range(7)).images.float().to(device)).detach().cpu()


def test_a_state_of_the_cpu_scores_the_same_on_a_gpu(method):
    learner, scores = learned(method, "cpu")
    images = task_images(range(7)).images.float().cuda()
    assert torch.allclose(learner.cuda().scores(images).cpu(), scores, rtol=1e-3, atol=1e-3 * scores.abs().max())


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_learns_on_a_gpu(method, precision):
    learner, scores = learned(method, "cuda", precision)
    assert scores.shape == (28, 7) and scores.isfinite().all()
    assert all(tensor.is_cuda for tensor in learner.own_tensors().values())
