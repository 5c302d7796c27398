"""The interface between a method and the training loop."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ntkcl.backbones import vit_blocks
from ntkcl.devices import distributed
from ntkcl.devices.compute import autocast
from ntkcl.settings.models import Model, Training
from ntkcl.tasks import Task, TaskImages

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer

Tensors = tuple[Tensor, ...]
"""Tensors of one batch; the first dimension of each is the image."""


class Learner(nn.Module):
    """A frozen backbone and the modules that a method adds to it.

    An image passes through these stages:

    1. `backbone_forward`: what depends on the image and the backbone alone. It is the same for all states of a run.
    2. `fixed_from_backbone`: what else training of the task does not change, without random numbers.
    3. `frozen_from_fixed`: the rest of that, with random numbers. `frozen_forward` is the three stages so far.
    4. `features`, in training `training_features`: with gradients.
    5. `loss` of a batch in training, `scores_from_features` in prediction.

    For each task, the loop calls `add_task`, `begin_task`, then `begin_epoch` for each epoch, the stages and
    `change_gradients` for each step, and `end_task`. Parameters and buffers are what a learner keeps between tasks.

    If the backbone's weights are bfloat16 (`ntkcl.backbones.vit_blocks.in_precision`), the stages up to `features` run
    under autocast; the later ones have full precision.

    Attributes:
        classes_learned: number of classes of the tasks added so far.
        epoch: the present epoch of the task, from 0, and
        step: the present step of the task, from 0; the loop sets both.
    """

    Settings: ClassVar[type[Model]]

    first_class = 0
    """The class of the first column of `training_logits`."""

    zero_gradients = False
    """Whether parameters that the loss does not reach get zero gradients, so that weight decay changes them.

    Torch's optimizers leave parameters without a gradient unchanged.
    """

    for_next_task: ClassVar[tuple[str, ...]] = ()
    """Buffers, or modules of buffers, that only learning the next task reads.

    A run keeps them in a file of their own, and only those of its last state.
    """

    trains_first_task_only = False
    """Whether later tasks train nothing."""

    needs_old_images = False
    """Whether `revisit_task` needs the images of earlier tasks: then the method is an oracle."""

    def __init__(self, backbone: "VisionTransformer", settings: Model) -> None:
        super().__init__()
        vit_blocks.check(backbone)
        self.backbone = backbone.requires_grad_(False).eval()
        self.settings = settings
        self.classes_learned = self.epoch = self.step = 0
        self.is_complete = True  # whether what is `for_next_task` is there

    @property
    def needs_whole_batch(self) -> bool:
        """Whether the features of an image depend on the other images of its batch in training."""
        return False

    def train(self, mode: bool = True) -> "Learner":
        """Switch dropout of the learner on or off; the backbone stays in evaluation mode."""
        super().train(mode)
        self.backbone.eval()
        return self

    def add_task(self, task: Task) -> None:
        """Add the classes and modules of `task`. Loading a state calls it for every task learned."""
        self.first_class, self.classes_learned = task.first_class, task.classes_learned

    def epochs_of(self, task: Task, training: Training) -> int:
        """Number of epochs of `task`: those of `training`, over which its schedule goes, or fewer."""
        return 0 if task.index and self.trains_first_task_only else training.epochs_of(task)

    def begin_task(self, task: Task, images: TaskImages, training: Training) -> None:
        """Prepare the first step of a task; it may pass over the training `images`.

        Several processes draw the same random numbers here. Called again when an interrupted task resumes. So compute
        only from the state before the task, or store results as parameters or buffers.
        """

    def begin_epoch(self, images: TaskImages) -> TaskImages:
        """Return what the batches of the epoch are taken from, by default the task's `images`.

        A method with phases may return others, such as features that it stores: batches that are tuples are taken for
        outputs of `fixed_forward`. Called again when an interrupted epoch resumes. So compute only from what the steps
        of the epoch do not change.
        """
        return images

    def backbone_forward(self, images: Tensor) -> Tensors:
        """Compute, without gradients, what depends on the image and the backbone alone: no parameters or buffers.

        Args:
            images: (B, C, H, W), preprocessed.
        """
        raise NotImplementedError

    def fixed_from_backbone(self, outputs: Tensors) -> Tensors:
        """Compute, without gradients and random numbers, what training of the task does not change.

        Args:
            outputs: of `backbone_forward`; they are also what this method returns by default.
        """
        return outputs

    def frozen_from_fixed(self, fixed: Tensors) -> Tensors:
        """Compute the rest of `frozen_forward` from the output of `fixed_forward`, by default nothing."""
        return fixed

    def draw(self, count: int) -> Tensors:
        """Draw the random numbers of a step for its `count` images, a row for each; by default none.

        Dropout is not part of it. Several processes draw the same numbers, and each uses the rows of its images.
        """
        return ()

    def features(self, frozen: Tensors) -> Tensors:
        """Compute what loss and scores need from the output of `frozen_forward`, with gradients."""
        return frozen

    def training_features(self, frozen: Tensors, drawn: Tensors) -> Tensors:
        """Compute what the loss needs, if it is more or other than `features`; `drawn` comes from `draw`."""
        return self.features(frozen)

    def loss(self, features: Tensors, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss to minimize, and its terms before their weights, for the log.

        Args:
            features: of a whole batch, also if several processes divide it among them.
            labels: (B,), positions in the class order, all of the present task.
        """
        raise NotImplementedError

    def change_gradients(self) -> None:
        """Change the gradients of a step in place, after clipping and before the optimizer uses them."""

    def update_maps(self) -> dict[nn.Parameter, Callable[[Tensor], Tensor]]:
        """Return maps of the optimizer's finished updates of parameters: p + map(update) is what a step makes of p.

        Called once, before the first step of a task.
        """
        return {}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the optimizer's groups of `trained_parameters`: `params`, and what differs from `Training`.

        `lr_factor` multiplies the learning rate in all epochs; other keys, such as `weight_decay`, are the optimizer's.
        """
        return [{"params": self.trained_parameters()}]

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

    def fixed_forward(self, images: Tensor) -> Tensors:
        """Compute the part of `frozen_forward` without random numbers.

        The loop computes it once if an image is the same in all epochs (`ntkcl.training.fixed_images`).
        """
        return self.fixed_from_backbone(self.backbone_forward(images))

    def frozen_forward(self, batch: Tensor | Tensors) -> Tensors:
        """Compute, without gradients, what training of the task does not change; the loop may pass several batches.

        Args:
            batch: images (B, C, H, W), preprocessed, or the output of `fixed_forward` for them.
        """
        return self.frozen_from_fixed(batch if isinstance(batch, tuple) else self.fixed_forward(batch))

    def extract_features(self, batch: Tensor | Tensors) -> Tensors:
        """The features of a batch, which is as for `frozen_forward`."""
        with self.autocast():
            return self.features(self.frozen_forward(batch))

    def scores(self, images: Tensor) -> Tensor:
        """Scores (B, classes learned) of images (B, C, H, W)."""
        return self.scores_from_features(self.extract_features(images))

    def scores_from_backbone(self, outputs: Tensors) -> Tensor:
        """Scores (B, classes learned) from the output of `backbone_forward`."""
        with self.autocast():
            features = self.features(self.frozen_from_fixed(self.fixed_from_backbone(outputs)))
        return self.scores_from_features(features)

    @staticmethod
    def scores_of_states(learners: Sequence["Learner"], images: Tensor) -> list[Tensor]:
        """Scores of images (B, C, H, W) by each of several states of a run; the backbone sees an image once."""
        with learners[0].autocast():
            outputs = learners[0].backbone_forward(images)
        return [learner.scores_from_backbone(outputs) for learner in learners]

    def autocast(self) -> AbstractContextManager:
        """The context that `frozen_forward` and `features` run in."""
        weight = self.backbone.blocks[0].attn.qkv.weight
        return autocast(weight.device, weight.dtype == torch.bfloat16)

    def trained_parameters(self) -> list[nn.Parameter]:
        """The parameters that the optimizer gets."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def state(self) -> dict[str, Tensor]:
        """All parameters and buffers but the backbone's, copied to the CPU."""
        return {name: tensor.detach().cpu().contiguous() for name, tensor in self.own_tensors().items()}

    def own_tensors(self) -> dict[str, Tensor]:
        """All parameters and buffers but the backbone's, on their device."""
        own = {name: tensor for name, tensor in self.state_dict().items() if not name.startswith("backbone.")}
        return {name: tensor for name, tensor in own.items() if self.is_complete or not self.is_for_next_task(name)}

    def is_for_next_task(self, name: str) -> bool:
        """Whether only learning the next task reads the tensor `name`."""
        return name.partition(".")[0] in self.for_next_task

    def load_state(self, state: dict[str, Tensor], learned: Iterable[Task] = ()) -> None:
        """Load the `state` of a learner after adding the tasks `learned`.

        Without what is `for_next_task`, the learner can predict, but not learn.

        Raises:
            RuntimeError: names or shapes differ from this learner's.
        """
        for task in learned:
            self.add_task(task)
        if absent := [name for name in self.own_tensors() if self.is_for_next_task(name) and name not in state]:
            self.is_complete = False
            for name in absent:
                path, _, buffer = name.rpartition(".")
                setattr(self.get_submodule(path), buffer, self.get_buffer(name).new_empty(0))
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
