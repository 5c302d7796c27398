"""One run on several devices: `torchrun` starts a process for each, and they share out the images of every batch.

Every process computes the features of its share. They are put together before the loss, which all compute alike from
the whole batch, so that terms that compare images of a batch with one another are what one process computes. In a
single process nothing here does anything.
"""

import atexit
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ntkcl.devices.random_state import random_state, set_random_state

_together = False  # whether `start` has joined processes; a person's own program may have joined some for itself


def start(device: torch.device) -> None:
    """Join the processes that `torchrun` started, if it started this one, until it ends."""
    global _together
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not _together:
        # what the host decides (orders, when to stop) goes over the host: no GPU has to be waited for
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
        atexit.register(stop)
        _together = True


def stop() -> None:
    """Leave them."""
    global _together
    if _together:
        _together = False
        dist.destroy_process_group()


def world_size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if _together else 1


def rank() -> int:
    """Which of them this one is. The first, 0, writes files."""
    return dist.get_rank() if _together else 0


def shard(rows: Tensor) -> Tensor:
    """This process's part of the first dimension: consecutive, in the order of ranks; lengths differ by one at most."""
    return rows.tensor_split(world_size())[rank()]


def broadcast(tensor: Tensor) -> Tensor:
    """What the first process has: for draws that must be the same everywhere."""
    if world_size() > 1:
        dist.broadcast(tensor, 0)
    return tensor


def all_gather_object(value: Any) -> list[Any]:
    """Every process's `value`, in the order of ranks."""
    values = [value] * world_size()
    if world_size() > 1:
        dist.all_gather_object(values, value)
    return values


def all_reduce_sum(tensor: Tensor) -> Tensor:
    """The sum over processes."""
    if world_size() > 1:
        dist.all_reduce(tensor)
    return tensor


def all_reduce_max(tensor: Tensor) -> Tensor:
    """The largest value over processes."""
    if world_size() > 1:
        dist.all_reduce(tensor, dist.ReduceOp.MAX)
    return tensor


def broadcast_parameters(module: nn.Module) -> None:
    """Give the trained parameters of all processes the first one's values."""
    for parameter in module.parameters():
        if parameter.requires_grad:
            broadcast(parameter.data)


@contextmanager
def shared_random_state() -> Iterator[None]:
    """Let all processes draw what the first one draws, in the loss, which they compute alike."""
    if world_size() == 1:
        yield
        return
    own = random_state()
    set_random_state({name: broadcast(state.clone()) for name, state in own.items()})
    yield
    if rank() > 0:
        set_random_state(own)


def all_gather_rows(part: Tensor, size: int) -> Tensor:
    """The tensor (size, ...) of which every process has its `share`; gradients go back to all shares."""
    return _AllGatherRows.apply(part, size) if world_size() > 1 else part


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """The mean over processes of each parameter's gradient, in place.

    Every process differentiates the same loss of the whole batch. What comes through features arrives as the sum over
    processes of the loss's gradients (`all_gather_rows`), everything else once in each process: the mean is right for both.
    """
    if world_size() > 1:
        gradients = [parameter.grad for parameter in parameters]
        flat = all_reduce_sum(torch.cat([gradient.flatten() for gradient in gradients])) / world_size()
        for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))


class _AllGatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, part: Tensor, size: int) -> Tensor:
        """Shares differ in size by one at most: all are sent as long as the longest."""
        sizes = [len(rows) for rows in torch.empty(size, 0).tensor_split(world_size())]
        sent = part.new_zeros(sizes[0], *part.shape[1:])
        sent[: len(part)] = part
        received = [torch.empty_like(sent) for _ in sizes]
        dist.all_gather(received, sent)
        return torch.cat([tensor[:length] for tensor, length in zip(received, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return shard(all_reduce_sum(gradient.clone(memory_format=torch.contiguous_format))), None
