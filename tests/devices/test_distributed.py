"""Several processes that share out one run's batches learn what one process learns."""

import os
import shutil
import signal
import socket
import subprocess
import sys

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from ntkcl.data.loading.batches import ArrayImages
from ntkcl.devices import distributed
from ntkcl.runs import resolve
from ntkcl.training.loop import learn_task
from ntkcl.training.train import train_task
from tests.training.test_checkpoints import CPU, FIRST, LEARNERS, SECOND, new_learner

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "ntkcl"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def noise(task) -> tuple[torch.Tensor, torch.Tensor]:
    labels = torch.arange(task.first_class, task.classes_seen).repeat(4)
    return torch.rand(len(labels), 1, 8, 8, generator=torch.Generator().manual_seed(task.index)), labels


def learn_in_float64(rank: int, count: int, port: int, folder: str) -> None:
    """Two tasks with every learner, without dropout; the first process writes what was learned."""
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    distributed.start(CPU)
    for name in LEARNERS:
        learner, training = new_learner(name, adapter_dropout=0.0, fusion_dropout=0.0)
        torch.manual_seed(5 + rank)
        rows = []
        for task in (FIRST, SECOND):
            rows += learn_task(learner, task, ArrayImages(*noise(task), CPU), training).rows
        losses = torch.tensor(rows)
        if rank == 0:
            save_file(learner.state() | {"losses": losses}, f"{folder}/{name}-{count}.safetensors")
    distributed.stop()


def test_they_learn_what_one_learns(tmp_path):
    """Shares of a batch differ in size, and the last batch of an epoch has fewer images than there are processes."""
    learn_in_float64(0, 1, 0, str(tmp_path))
    torch.set_default_dtype(torch.float32)
    for count in (2, 3):
        torch.multiprocessing.spawn(learn_in_float64, (count, free_port(), str(tmp_path)), count)
        for name in LEARNERS:
            alone, together = (load_file(tmp_path / f"{name}-{number}.safetensors") for number in (1, count))
            for key, tensor in alone.items():
                assert torch.allclose(tensor, together[key], rtol=1e-9, atol=1e-11, equal_nan=True), (name, key)


def sums_of_two(rank: int, port: int, folder: str) -> None:
    """Gradients of two features that are added: one gradient tensor goes back through both."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    distributed.start(CPU)
    weights = [torch.nn.Parameter(torch.ones(1)) for _ in range(2)]
    part = distributed.shard(torch.arange(1.0, 4.0))
    (sum(distributed.all_gather_rows(part * weight, 3) for weight in weights) ** 2).sum().backward()
    distributed.average_gradients(weights)
    if rank == 0:
        torch.save([weight.grad for weight in weights], f"{folder}/gradients")
    distributed.stop()


def test_gradients_of_features_that_are_added(tmp_path):
    torch.multiprocessing.spawn(sums_of_two, (free_port(), str(tmp_path)), 2)
    assert torch.load(tmp_path / "gradients") == [torch.tensor([56.0])] * 2


def in_a_persons_program(rank: int, folder: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    assert (distributed.world_size(), len(distributed.shard(torch.arange(6)))) == (1, 6)
    torch.distributed.destroy_process_group()


def test_a_persons_own_processes_do_not_share_images(tmp_path):
    torch.multiprocessing.spawn(in_a_persons_program, (str(tmp_path),), 2)


@pytest.fixture
def without_dropout(tiny):
    torch.set_num_threads(1)
    path = tiny / "params/methods/ntk_cl.yaml"
    path.write_text(path.read_text().replace("prompts: 2", "prompts: 2, adapter_dropout: 0, fusion_dropout: 0"))
    (tiny / "params/methods/together.yaml").write_text(path.read_text())
    return tiny


@pytest.mark.slow
def test_the_commands_under_torchrun(without_dropout):
    """Training and evaluation, with files that one process writes."""
    alone = resolve("digits", "vit_tiny", "ntk_cl", 0)
    run = ["digits", "vit_tiny", "together", "0"]
    for task in (0, 1):
        train_task(alone, task, CPU)
        done = subprocess.run([*TORCHRUN, "train", *run, "--task", str(task)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("is ready") == 1
        together = resolve(*run[:3], 0)
        states = [load_file(each.state_path(task)) for each in (alone, together)]
        for name, tensor in states[0].items():
            if name.startswith("learner"):
                assert torch.allclose(tensor, states[1][name], rtol=1e-4, atol=1e-5), name
    evaluate = ["evaluate", *run]
    tables = []
    for command in ([*TORCHRUN, *evaluate], [sys.executable, "-m", "ntkcl", *evaluate]):
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("is ready") == 1
        tables.append(pd.read_csv(together.folder / "predictions.csv.gz"))
    assert tables[0].drop(columns="score").equals(tables[1].drop(columns="score"))


@pytest.mark.slow
def test_a_signal_to_one_of_them_stops_all_and_they_go_on(tiny):
    """With dropout, which each process draws for its own images: all random states come back."""
    path = tiny / "params/methods/ntk_cl.yaml"
    (tiny / "params/methods/together.yaml").write_text(path.read_text().replace("epochs: 2", "epochs: 40"))
    command = [*TORCHRUN, "train", "digits", "vit_tiny", "together", "0", "--task", "0"]
    state = resolve("digits", "vit_tiny", "together", 0).state_path(0)
    first = subprocess.Popen([*command, "--save-every", "0"], stdout=-1, stderr=-1, text=True)
    assert any("epoch 2 of 40" in line for line in first.stdout)
    first.send_signal(signal.SIGTERM)
    error = first.communicate(timeout=90)[1]
    assert first.returncode != 0
    assert "stopped by SIGTERM at task 0" in error
    assert not state.exists()
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "epoch 1 of 40" not in done.stdout
    assert not state.with_name("checkpoint.safetensors").exists()
    losses = state.with_name("losses.csv").read_bytes()
    shutil.rmtree(state.parent)
    subprocess.run(command, capture_output=True, check=True)
    assert state.with_name("losses.csv").read_bytes() == losses
