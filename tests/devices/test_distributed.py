"""Several processes among which one run's batches are divided learn what one process learns."""

import shutil
import signal
import subprocess
import sys

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from ntkcl.runs import resolve
from ntkcl.training.train import train_task
from tests.helpers.learners import CPU
from tests.helpers.processes import (
    LEARNERS,
    add_two_features,
    free_port,
    in_processes,
    in_the_users_program,
    learn_in_float64,
)

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "ntkcl"]


def test_they_learn_what_one_learns(tmp_path):
    """Shares of a batch differ in size, and the last batch of an epoch has fewer images than there are processes."""
    try:
        learn_in_float64(0, 1, 0, str(tmp_path))
    finally:
        torch.set_default_dtype(torch.float32)
    for count, micro_batch in ((2, None), (3, None), (2, 2), (3, 1)):  # the last two: each share in parts
        in_processes(learn_in_float64, count, count, free_port(), str(tmp_path), micro_batch)
        for name in LEARNERS:
            alone, together = (load_file(tmp_path / f"{name}-{number}.safetensors") for number in (1, count))
            for key, tensor in alone.items():
                assert torch.allclose(tensor, together[key], rtol=1e-9, atol=1e-11, equal_nan=True), (name, key)


def test_gradients_of_features_that_are_added(tmp_path):
    in_processes(add_two_features, 2, free_port(), str(tmp_path))
    assert torch.load(tmp_path / "gradients") == [torch.tensor([56.0])] * 2


def test_processes_of_the_users_own_program_do_not_share_images(tmp_path):
    in_processes(in_the_users_program, 2, str(tmp_path))


@pytest.fixture
def without_dropout(tiny):
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
