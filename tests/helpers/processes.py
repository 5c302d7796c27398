"""Programs for several processes of `torch.distributed`, which fork from a server that has imported torch."""

import os
import socket
from collections.abc import Callable

import torch
from safetensors.torch import save_file

from ntkcl.data.loading.batches import ArrayImages
from ntkcl.devices import distributed
from ntkcl.registry import METHODS
from ntkcl.tasks import Task
from ntkcl.training.loop import learn_task
from tests.helpers.interruptions import FIRST, OPTIMIZERS, SECOND, new_learner
from tests.helpers.learners import CPU

LEARNERS = {name: OPTIMIZERS[number % len(OPTIMIZERS)] for number, name in enumerate(METHODS.names())}


def in_processes(function: Callable[..., None], count: int, *arguments: object) -> None:
    """Call `function(rank, *arguments)` in `count` processes."""
    torch.multiprocessing.set_forkserver_preload([__name__])
    torch.multiprocessing.start_processes(function, arguments, count, start_method="forkserver")


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def learn_in_float64(rank: int, count: int, port: int, folder: str, micro_batch: int | None = None) -> None:
    """Two tasks with every learner, without dropout; the first process writes what was learned."""
    torch.set_default_dtype(torch.float64)
    join(rank, count, port)
    for name, optimizer in LEARNERS.items():
        learner, training = new_learner(name, optimizer, dropout=False)
        training = training.model_copy(update={"micro_batch": micro_batch})
        torch.manual_seed(5 + rank)
        rows = []
        for task in (FIRST, SECOND):
            rows += learn_task(learner, task, ArrayImages(*noise(task), CPU), training).rows
        if rank == 0:
            save_file(learner.state() | {"losses": torch.tensor(rows)}, f"{folder}/{name}-{count}.safetensors")
    distributed.stop()


def add_two_features(rank: int, port: int, folder: str) -> None:
    """Gradients of two features that are added: one gradient tensor goes back through both."""
    join(rank, 2, port)
    weights = [torch.nn.Parameter(torch.ones(1)) for _ in range(2)]
    part = distributed.shard(torch.arange(1.0, 4.0))
    (sum(distributed.all_gather_rows(part * weight, 3) for weight in weights) ** 2).sum().backward()
    distributed.average_gradients(weights)
    if rank == 0:
        torch.save([weight.grad for weight in weights], f"{folder}/gradients")
    distributed.stop()


def in_the_users_program(rank: int, folder: str) -> None:
    """Processes that the user's own program started for something else."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    assert (distributed.world_size(), len(distributed.shard(torch.arange(6)))) == (1, 6)
    torch.distributed.destroy_process_group()


def join(rank: int, count: int, port: int) -> None:
    """Join the group as torchrun's processes do; a single process, the test's own, keeps its environment."""
    if count == 1:
        return
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ[distributed.STARTED_BY_TORCHRUN] = "test"
    distributed.start(CPU)


def noise(task: Task) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and labels of a task."""
    labels = torch.arange(task.first_class, task.classes_learned).repeat(4)
    return torch.rand(len(labels), 1, 8, 8, generator=torch.Generator().manual_seed(task.index)), labels
