"""Small learners, images for them, and tasks that are learned in a fraction of a second."""

import torch
from timm.models.vision_transformer import VisionTransformer

from ntkcl.data.loading.batches import ArrayImages
from ntkcl.methods.adapter_finetuning import AdapterFineTuning
from ntkcl.methods.learner import Learner
from ntkcl.methods.ntk_cl.learner import NTKCL
from ntkcl.registry import METHODS
from ntkcl.settings.models import Training
from ntkcl.tasks import tasks_of
from ntkcl.training.loop import LossLog, learn_task

CPU = torch.device("cpu")
DEPTH = 6  # of a ViT that all methods can use: some have prompts in the first five blocks
SMALLER: dict[str, dict] = {"ranpac": {"projection": 40}}  # defaults that take minutes on a ViT of any size
VIT = dict(img_size=16, patch_size=8, in_chans=1, embed_dim=16, num_heads=2, num_classes=0)


def small_vit(depth: int = 3, **options) -> VisionTransformer:
    """A ViT of 16 channels in float64 with timm's random weights, always the same."""
    torch.manual_seed(0)
    return VisionTransformer(**VIT, depth=depth, **options).double()


def learner_of(method: str, depth: int = 3, **settings) -> Learner:
    """A learner on a small ViT, in float64, with the defaults of the method for all other settings but `SMALLER`."""
    kind, vit = METHODS.load(method), small_vit(depth)
    torch.manual_seed(5)
    return kind(vit, kind.Settings(**SMALLER.get(method, {}) | settings)).double()


def ntk_cl(**settings) -> NTKCL:
    """A small learner of NTK-CL in float64."""
    return learner_of("ntk_cl", **(dict(adapter_width=4, prompts=2) | settings))


def finetuning(**settings) -> AdapterFineTuning:
    """A small learner of adapter fine-tuning in float64."""
    return learner_of("adapter_finetuning", **(dict(adapter_width=4) | settings))


def task_images(classes: range, per_class: int = 4, seed: int = 0) -> ArrayImages:
    """Random images in float64, brighter from class to class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.tensor(list(classes)).repeat_interleave(per_class)
    images = torch.rand(len(labels), 1, 16, 16, generator=generator, dtype=torch.float64)
    return ArrayImages(images + labels[:, None, None, None] / 10, labels, CPU)


def learn(
    learner: Learner, sizes: tuple[int, ...] = (2, 3, 2), training: Training | None = None, seed: int = 1
) -> tuple[list[dict[str, torch.Tensor]], list[LossLog]]:
    """Learn tasks of these sizes; return the state after each task and the log of each."""
    torch.manual_seed(seed)
    training = training or Training(lr=0.05, epochs=2, batch_size=4)
    states, logs = [], []
    for task in tasks_of(list(sizes)):
        logs.append(learn_task(learner, task, task_images(range(task.first_class, task.classes_learned)), training))
        states.append({name: tensor.clone() for name, tensor in learner.state().items()})
        learner.double()
    return states, logs
