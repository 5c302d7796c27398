"""Memory of computations."""

import resource
from pathlib import Path

import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode

from ntkcl.methods.learner import Learner, Tensors

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def forget_peak(device: torch.device) -> None:
    """Reset the peak of memory use."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif CLEAR.exists():
        CLEAR.write_text("5")  # proc_pid_clear_refs(5): the peak becomes the current use


def peak(device: torch.device) -> int:
    """Return the peak of memory use in bytes: of the GPU, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    lines = STATUS.read_text().splitlines() if STATUS.exists() else []
    found = [int(line.split()[1]) for line in lines if line.startswith("VmHWM")]
    return 1024 * (found[0] if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def step_features(learner: Learner, images: Tensor) -> Tensors:
    """What the loss of a training step gets for images (B, C, H, W)."""
    drawn = learner.draw(len(images))
    with learner.autocast():
        return learner.training_features(learner.frozen_forward(images), drawn)


def kept_for_backward(learner: Learner, images: Tensor, labels: Tensor) -> int:
    """Return the bytes that the forward passes of a training step keep for the backward pass, excluding weights.

    They are computed from shapes, without using that memory.

    Args:
        learner: a learner within a task.
        images: (B, C, H, W).
        labels: (B,).
    """
    shapes = FakeTensorMode(allow_non_fake_inputs=True)
    stand_ins = [shapes.from_tensor(tensor) for tensor in (*learner.parameters(), *learner.buffers())]
    weights = {tensor.untyped_storage()._cdata for tensor in stand_ins}
    kept: dict[int, tuple[int, Tensor]] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = (storage.nbytes(), tensor)  # with the tensor, so that its storage is not reused
        return tensor

    images, labels = shapes.from_tensor(images), shapes.from_tensor(labels)
    with shapes, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        learner.loss(step_features(learner, images), labels)
    return sum(size for size, _ in kept.values())
