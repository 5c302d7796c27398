"""The parts of a run: its task stream, its backbone, its learner."""

from typing import TYPE_CHECKING

import torch

from ntkcl.backbones.files import load_vit
from ntkcl.backbones.vit_blocks import in_precision
from ntkcl.data.loading.task_stream import TaskStream
from ntkcl.devices.compute import precision_on
from ntkcl.methods.learner import Learner
from ntkcl.registry import METHODS
from ntkcl.runs import Run

if TYPE_CHECKING:
    from ntkcl.backbones.timm_vit import VisionTransformer


def stream_of(run: Run) -> TaskStream:
    """The images of a run in the order of its tasks; errors as for `TaskStream.load`."""
    return TaskStream.load(
        run.dataset_name,
        run.preprocessing,
        run.backbone.architecture,
        run.class_order_seed,
        run.seed,
        run.training.train_fraction,
    )


def backbone_of(run: Run, device: torch.device) -> "VisionTransformer":
    """The frozen backbone of a run, in the precision that its training has on `device`, on the CPU."""
    return in_precision(load_vit(run.backbone_name), precision_on(device, run.training.precision))


def new_learner(run: Run, backbone: "VisionTransformer") -> Learner:
    """A learner that has not learned anything, on `backbone`."""
    return METHODS.load(run.method.learner)(backbone, run.settings)
