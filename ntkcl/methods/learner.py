"""What a method is: the interface between a learner and the training loop."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from ntkcl.batches import TaskImages
from ntkcl.peft import vit
from ntkcl.settings import Model, Task, Training

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer


class Learner(nn.Module):
    """A frozen backbone and what a method adds to it.

    The loop calls, for each task: `begin_task`, `loss` once a step, `end_task`; afterwards `scores` on any image of
    the classes seen so far. What a learner keeps between tasks are its parameters and buffers.
    """

    Settings: ClassVar[type[Model]]

    def __init__(self, backbone: "VisionTransformer", settings: Model) -> None:
        super().__init__()
        vit.check(backbone)
        self.backbone = backbone.requires_grad_(False).eval()
        self.settings = settings

    def train(self, mode: bool = True) -> "Learner":
        """Switch dropout of the learner on or off; the backbone stays as it is evaluated."""
        super().train(mode)
        self.backbone.eval()
        return self

    def grow(self, task: Task) -> None:
        """Make room for the classes and modules of `task`. Loading a state calls it for every task learned."""
        raise NotImplementedError

    def begin_task(self, task: Task, images: TaskImages, training: Training) -> None:
        """What happens before the first step of a task; passes over its training `images` are free."""

    def loss(self, images: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss to minimize, and its terms for the log, before their weights.

        Args:
            images: (B, C, H, W), in [0, 1].
            labels: (B,), positions in the class order, all of the present task.
        """
        raise NotImplementedError

    def end_task(self, task: Task, images: TaskImages) -> None:
        """What happens after the last step of a task; passes over its training `images` are free."""

    def scores(self, images: Tensor) -> Tensor:
        """Scores (B, classes seen) of images; the largest is the prediction."""
        raise NotImplementedError

    def trained_parameters(self) -> list[nn.Parameter]:
        """The parameters that the optimizer gets."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def state(self) -> dict[str, Tensor]:
        """All parameters and buffers but the backbone's, on the CPU."""
        return {
            name: tensor.detach().cpu().contiguous()
            for name, tensor in self.state_dict().items()
            if not name.startswith("backbone.")
        }

    def load_state(self, state: dict[str, Tensor], learned: Iterable[Task]) -> None:
        """Take up the `state` of a learner that has learned the tasks `learned`.

        Raises:
            RuntimeError: names or shapes differ from this learner's.
        """
        for task in learned:
            self.grow(task)
        own = {name for name in self.state_dict() if not name.startswith("backbone.")}
        if own != set(state):
            raise RuntimeError(f"names differ: {', '.join(sorted(own ^ set(state))[:4])}")
        self.load_state_dict(state, strict=False)


def class_means(features: Iterable[tuple[Tensor, Tensor]], task: Task) -> Tensor:
    """The mean feature (size of the task, D) of each class of `task`.

    Args:
        features: pairs of features (B, D), not normalized, and labels (B,).

    Raises:
        ValueError: a class has no image.
    """
    pairs = list(features)
    values = torch.cat([value for value, _ in pairs])
    labels = torch.cat([label for _, label in pairs]).to(values.device) - task.first_class
    counts = torch.bincount(labels, minlength=task.size)
    if (counts == 0).any():
        raise ValueError(f"no image of class {int((counts == 0).nonzero()[0]) + task.first_class}")
    sums = torch.zeros(task.size, values.shape[1], dtype=values.dtype, device=values.device)
    return sums.index_add_(0, labels, values) / counts[:, None]
