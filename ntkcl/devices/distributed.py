"""One run on several devices: `torchrun` starts a process for each; they divide the images of every batch.

Every process computes the features of its shard. They are gathered before the loss, which all processes compute from
the whole batch, so that terms that compare images of a batch are the same as in one process. In a single process all
functions of this module do nothing.
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

STARTED_BY_TORCHRUN = "TORCHELASTIC_RUN_ID"
_together = False  # whether `start` has joined processes; a user's program may have joined others for itself


def by_torchrun(variable: str) -> int | None:
    """Return a number that `torchrun` gives its processes by a variable of the environment; None without torchrun.

    Clusters and shells leave behind variables of the same names.
    """
    return int(os.environ[variable]) if STARTED_BY_TORCHRUN in os.environ else None


def local_rank() -> int | None:
    """Rank of this process among those of `torchrun` on this machine; None without torchrun."""
    return by_torchrun("LOCAL_RANK")


def start(device: torch.device) -> None:
    """Join the processes that `torchrun` started, if it started this one, until it ends."""
    global _together
    if (by_torchrun("WORLD_SIZE") or 1) > 1 and not _together:
        # decisions of the host (orders, when to stop) use gloo: nobody waits for a GPU
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
        atexit.register(stop)
        _together = True


def stop() -> None:
    """Leave the process group."""
    global _together
    if _together:
        _together = False
        dist.destroy_process_group()


def world_size() -> int:
    """Number of processes."""
    return dist.get_world_size() if _together else 1


def rank() -> int:
    """Rank of this process. Rank 0 writes files."""
    return dist.get_rank() if _together else 0


def shard(rows: Tensor) -> Tensor:
    """This process's part of the first dimension: consecutive, in the order of ranks; lengths differ by one at most."""
    return rows.tensor_split(world_size())[rank()]


def broadcast(tensor: Tensor) -> Tensor:
    """Return the tensor of rank 0, for random numbers that must be the same everywhere."""
    if world_size() > 1:
        dist.broadcast(tensor, 0)
    return tensor


def all_gather_object(value: Any) -> list[Any]:
    """Return the `value` of every process, in the order of ranks."""
    values = [value] * world_size()
    if world_size() > 1:
        dist.all_gather_object(values, value)
    return values


def all_reduce_sum(tensor: Tensor) -> Tensor:
    """Sum over processes, in place."""
    if world_size() > 1:
        dist.all_reduce(tensor)
    return tensor


def all_reduce_max(tensor: Tensor) -> Tensor:
    """Maximum over processes, in place."""
    if world_size() > 1:
        dist.all_reduce(tensor, dist.ReduceOp.MAX)
    return tensor


def broadcast_parameters(module: nn.Module) -> None:
    """Copy the trained parameters of rank 0 to all processes."""
    for parameter in module.parameters():
        if parameter.requires_grad:
            broadcast(parameter.data)


def wait_for_all() -> None:
    """Return when all processes have come here."""
    if world_size() > 1:
        dist.barrier()


@contextmanager
def shared_random_state() -> Iterator[None]:
    """Let all processes use the random state of rank 0, for the loss, which all of them compute."""
    if world_size() == 1:
        yield
        return
    own = random_state()
    set_random_state({name: broadcast(state.clone()) for name, state in own.items()})
    yield
    if rank() > 0:
        set_random_state(own)


def all_gather_rows(part: Tensor, size: int) -> Tensor:
    """Return the tensor (size, ...) of which every process has a shard; gradients flow back to all shards."""
    return _AllGatherRows.apply(part, size) if world_size() > 1 else part


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Average the gradient of each parameter over processes, in place.

    Every process differentiates the same loss of the whole batch. Gradients through features arrive as the sum over
    processes (`all_gather_rows`), all others once in each process: the mean is right for both.
    """
    if world_size() > 1:
        parameters = list(parameters)
        in_any = all_reduce_max(torch.tensor([parameter.grad is not None for parameter in parameters]))
        for parameter, has_gradient in zip(parameters, in_any.tolist(), strict=True):
            if has_gradient and parameter.grad is None:  # the loss reached it in another process only
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = all_reduce_sum(torch.cat([gradient.flatten() for gradient in gradients])) / world_size()
        for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))


class _AllGatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, part: Tensor, size: int) -> Tensor:
        """Shards differ in size by one at most: all are padded to the longest."""
        sizes = [len(rows) for rows in torch.empty(size, 0).tensor_split(world_size())]
        sent = part.new_zeros(sizes[0], *part.shape[1:])
        sent[: len(part)] = part
        received = [torch.empty_like(sent) for _ in sizes]
        dist.all_gather(received, sent)
        return torch.cat([tensor[:length] for tensor, length in zip(received, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return shard(all_reduce_sum(gradient.clone(memory_format=torch.contiguous_format))), None
