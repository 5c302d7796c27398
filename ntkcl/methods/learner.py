"""The interface between a method and the training loop."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ntkcl.backbones import vit_blocks
from ntkcl.devices import distributed
from ntkcl.settings.models import Model, Training
from ntkcl.tasks import Task, TaskImages

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer

Tensors = tuple[Tensor, ...]
"""Tensors of one batch; the first dimension of each is the image."""


class Learner(nn.Module):
    """A frozen backbone and the modules that a method adds to it.

    An image passes through `frozen_forward`, `features`, and then `loss` (in training) or `scores_from_features`. The
    first stage has two parts: `fixed_forward` and, if it needs random numbers, `frozen_from_fixed`. For each task, the
    loop calls `add_task`, `begin_task`, these stages for every step, and `end_task`. Parameters and buffers are what a
    learner keeps between tasks.

    If the backbone's weights are bfloat16 (`ntkcl.backbones.vit_blocks.in_precision`), `frozen_forward` and `features`
    run under autocast; the later stages have full precision.
    """

    Settings: ClassVar[type[Model]]

    first_class = 0
    """The class of the first column of `training_logits`."""

    zero_gradients = False
    """Whether parameters that the loss does not reach get zero gradients, so that weight decay changes them.

    Torch's optimizers leave parameters without a gradient unchanged.
    """

    needs_old_images = False
    """Whether `revisit_task` needs the images of earlier tasks: then the method is an oracle."""

    def __init__(self, backbone: "VisionTransformer", settings: Model) -> None:
        super().__init__()
        vit_blocks.check(backbone)
        self.backbone = backbone.requires_grad_(False).eval()
        self.settings = settings

    def train(self, mode: bool = True) -> "Learner":
        """Switch dropout of the learner on or off; the backbone stays in evaluation mode."""
        super().train(mode)
        self.backbone.eval()
        return self

    def add_task(self, task: Task) -> None:
        """Add the classes and modules of `task`. Loading a state calls it for every task learned."""
        self.first_class = task.first_class

    def begin_task(self, task: Task, images: TaskImages, training: Training) -> None:
        """Prepare the first step of a task; it may pass over the training `images`.

        Called again when an interrupted task resumes. So compute only from the state before the task, or store results
        as parameters or buffers.
        """

    def frozen_forward(self, images: Tensor) -> Tensors:
        """Compute, without gradients, what training of the task does not change; the loop may pass several batches.

        Args:
            images: (B, C, H, W), preprocessed.
        """
        return self.frozen_from_fixed(self.fixed_forward(images))

    def fixed_forward(self, images: Tensor) -> Tensors:
        """Compute the part of `frozen_forward` without random numbers.

        The loop computes it once if an image is the same in all epochs (`ntkcl.training.fixed_images`).
        """
        raise NotImplementedError

    def frozen_from_fixed(self, fixed: Tensors) -> Tensors:
        """Compute the rest of `frozen_forward` from the output of `fixed_forward`, by default nothing."""
        return fixed

    def features(self, frozen: Tensors) -> Tensors:
        """Compute what loss and scores need from the output of `frozen_forward`, with gradients."""
        return frozen

    def loss(self, features: Tensors, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss to minimize, and its terms before their weights, for the log.

        Args:
            features: of a whole batch, also if several processes divide it among them.
            labels: (B,), positions in the class order, all of the present task.
        """
        raise NotImplementedError

    def end_task(self, task: Task, images: TaskImages) -> None:
        """Finish a task after its last step; it may pass over the training `images`."""

    def revisit_task(self, task: Task, images: TaskImages) -> None:
        """Let an oracle use the training `images` of an earlier `task`, after `end_task`."""

    def training_logits(self, features: Tensors) -> Tensor:
        """The logits of the loss: (B, classes from `first_class` on)."""
        return self.scores_from_features(features)[:, self.first_class :]

    def named_features(self, features: Tensors) -> dict[str, Tensor]:
        """The features (B, D) that analyses use, by name."""
        return {"feature": features[0]}

    def scores_from_features(self, features: Tensors) -> Tensor:
        """Scores (B, classes learned); the largest is the prediction."""
        raise NotImplementedError

    def extract_features(self, images: Tensor) -> Tensors:
        """The features of images (B, C, H, W)."""
        with self.autocast():
            return self.features(self.frozen_forward(images))

    def scores(self, images: Tensor) -> Tensor:
        """Scores (B, classes learned) of images (B, C, H, W)."""
        return self.scores_from_features(self.extract_features(images))

    def autocast(self) -> torch.autocast:
        """The context that `frozen_forward` and `features` run in."""
        weight = self.backbone.blocks[0].attn.qkv.weight
        return torch.autocast(weight.device.type, torch.bfloat16, enabled=weight.dtype == torch.bfloat16)

    def trained_parameters(self) -> list[nn.Parameter]:
        """The parameters that the optimizer gets."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def state(self) -> dict[str, Tensor]:
        """All parameters and buffers but the backbone's, copied to the CPU."""
        return {name: tensor.detach().cpu().contiguous() for name, tensor in self.own_tensors().items()}

    def own_tensors(self) -> dict[str, Tensor]:
        """All parameters and buffers but the backbone's, on their device."""
        return {name: tensor for name, tensor in self.state_dict().items() if not name.startswith("backbone.")}

    def load_state(self, state: dict[str, Tensor], learned: Iterable[Task] = ()) -> None:
        """Load the `state` of a learner after adding the tasks `learned`.

        Raises:
            RuntimeError: names or shapes differ from this learner's.
        """
        for task in learned:
            self.add_task(task)
        if (own := set(self.own_tensors())) != set(state):
            raise RuntimeError(f"names differ: {', '.join(sorted(own ^ set(state))[:4])}")
        self.load_state_dict(state, strict=False)


def class_means(features: Iterable[tuple[Tensor, Tensor]], task: Task) -> Tensor:
    """The mean feature (size of the task, D) of each class of `task`.

    Args:
        features: pairs of features (B, D), not normalized, and labels (B,); of this process's shard of the images.

    Raises:
        ValueError: a class has no image.
    """
    sums, counts = 0.0, 0.0
    for values, labels in features:
        members = F.one_hot(labels - task.first_class, task.size).to(values).T
        sums, counts = sums + members @ values, counts + members.sum(1)
    sums, counts = distributed.all_reduce_sum(sums), distributed.all_reduce_sum(counts)
    if (counts == 0).any():
        raise ValueError(f"no image of class {int((counts == 0).nonzero()[0]) + task.first_class}")
    return sums / counts[:, None]
