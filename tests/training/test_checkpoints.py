"""Checkpoints within a task: signals, damaged and foreign files, full disks, and the command itself.

That an interrupted task ends with the same bytes is part of the learners' contract (tests/methods/test_contract.py).
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ntkcl.errors import UserError
from ntkcl.runs import resolve
from ntkcl.training.checkpoint import Checkpoints, Stopped
from ntkcl.training.loop import learn_task
from ntkcl.training.train import train_task
from tests.helpers.interruptions import (
    METADATA,
    NEVER,
    SECOND,
    InterruptedImages,
    Killed,
    kill,
    learn_second,
    learner_after_first,
    noise_images,
)
from tests.helpers.learners import CPU
from tests.helpers.projects import working_in
from tests.helpers.tensor_files import rewrite_tensors

NTKCL_COMMAND = Path(sys.executable).with_name("ntkcl")


def test_a_signal_stops_training_after_the_step(tmp_path):
    learner, training = learner_after_first("ntk_cl")
    checkpoints = Checkpoints(tmp_path / "c", METADATA, {}, NEVER)
    images = InterruptedImages(noise_images(SECOND), 4, lambda: signal.raise_signal(signal.SIGTERM))
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with pytest.raises(Stopped, match=r"stopped by SIGTERM at task 1, epoch 2 of 3, step 5; the same"):
        learn_task(learner, SECOND, images, training, checkpoints=checkpoints)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def with_another_tensor(path: Path) -> None:
    """As an earlier version of the code may have written it."""
    rewrite_tensors(path, more=torch.zeros(1))


def test_the_end_of_a_task_can_be_interrupted_too(tmp_path, monkeypatch):
    """The steps are not repeated."""
    path = tmp_path / "checkpoint.safetensors"
    whole = learn_second(path, "ntk_cl")
    monkeypatch.setattr("ntkcl.training.loop.MIN_SAVED_SECONDS", 0)
    learner, training = learner_after_first("ntk_cl")
    images = InterruptedImages(noise_images(SECOND), 100, kill)
    images.eval_batches = kill
    with pytest.raises(Killed):
        learn_task(learner, SECOND, images, training, checkpoints=Checkpoints(path, METADATA, {}, NEVER))
    assert learn_second(path, "ntk_cl", interrupt_at=0) == whole  # no batch is taken


def test_a_checkpoint_after_another_state_is_ignored(finished, capsys):
    """The task before was learned again, with other bytes, so the checkpoint started from another state."""
    run = resolve("digits", "vit_tiny", "ntk_cl", 0)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(UserError, match="No space"):
        patch.setattr("ntkcl.training.train.save_state", full_disk)
        train_task(run, 1, CPU, checkpoint_pause=0)
    saved = run.state_path(1).with_name("checkpoint.safetensors")
    assert saved.exists()
    rewrite_tensors(run.state_path(0), prototypes=load_file(run.state_path(0))["learner/prototypes"] + 1)
    train_task(run, 1, CPU)
    assert "checkpoint.safetensors was written with other earlier tasks" in capsys.readouterr().err
    assert not saved.exists()


def full_disk(*arguments):
    raise UserError("No space left on device")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:2000]), "is damaged"),
        (lambda path: path.write_bytes(b"nothing of the kind"), "is damaged"),
        (lambda path: METADATA.update(weights="others"), "was written with other weights (w, now others)"),
        (with_another_tensor, "has other tensors than this learner"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_ignored_with_a_warning(tmp_path, capsys, monkeypatch, damage, reason):
    path = tmp_path / "checkpoint.safetensors"
    monkeypatch.setitem(METADATA, "weights", "w")
    whole = learn_second(path, "ntk_cl")
    learn_second(path, "ntk_cl", interrupt_at=4, interval=0)
    damage(path)
    assert learn_second(path, "ntk_cl") == whole
    warning = capsys.readouterr().err
    assert reason in warning and "the task starts from its beginning" in warning and warning.count("\n") == 1
    assert "going on" not in warning


def test_a_full_disk_keeps_the_last_checkpoint_and_training_continues(tmp_path, monkeypatch, capsys):
    path = tmp_path / "checkpoint.safetensors"
    learn_second(path, "ntk_cl", interrupt_at=3, interval=0)
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert learn_second(path, "ntk_cl", interrupt_at=5, interval=0) is None
        assert "warning: cannot write" in capsys.readouterr().err
        with pytest.raises(UserError, match="No space left on device"):
            learn_second(path, "ntk_cl", 5, lambda: signal.raise_signal(signal.SIGTERM), interval=0)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture(scope="module")
def uninterrupted(once, tiny_prepared):
    """The folder of a task that was trained without a stop, and whose settings are in `params/methods/long.yaml`."""

    def fill(folder):
        shutil.copytree(tiny_prepared, folder)
        with working_in(folder):
            text = Path("params/methods/ntk_cl.yaml").read_text()
            Path("params/methods/long.yaml").write_text(text.replace("epochs: 2", "epochs: 20"))
            train_task(resolve("digits", "vit_tiny", "long", 0), 0, CPU)

    return once("tiny-uninterrupted", fill) / "runs/digits/vit_tiny/long/seed0/task0"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_command_resumes_where_it_was_interrupted(uninterrupted, tiny, number):
    """The real command, interrupted in the middle of its steps."""
    shutil.copy(uninterrupted.parents[5] / "params/methods/long.yaml", "params/methods")
    command = [NTKCL_COMMAND, "train", "digits", "vit_tiny", "long", "0", "--task", "0", "--save-every", "0"]
    state = tiny / "runs/digits/vit_tiny/long/seed0/task0/state.safetensors"
    checkpoint, stamp = state.with_name("checkpoint.safetensors"), 0
    for _ in range(2 if number == signal.SIGKILL else 1):
        running = subprocess.Popen(command, stdout=-1, stderr=-1, text=True, env=os.environ)
        deadline = time.monotonic() + 120
        while running.poll() is None and time.monotonic() < deadline:
            if checkpoint.exists() and checkpoint.stat().st_mtime_ns > stamp:
                break
            time.sleep(0.01)
        running.send_signal(number)
        output, error = running.communicate(timeout=60)
        assert running.returncode != 0, output
        assert number == signal.SIGKILL or f"error: stopped by {number.name} at task 0" in error
        assert checkpoint.exists() and not state.exists()
        stamp = checkpoint.stat().st_mtime_ns
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"resuming from {checkpoint.relative_to(tiny)}, after " in done.stderr
    assert state.with_name("losses.csv").read_bytes() == (uninterrupted / "losses.csv").read_bytes()
    tensors, expected = load_file(state), load_file(uninterrupted / "state.safetensors")
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in expected.items())
    assert not checkpoint.exists()
