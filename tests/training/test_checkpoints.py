"""Starting again within a task: stopped or killed anywhere, training ends with the bytes of training that was not."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from timm.models.vision_transformer import VisionTransformer

from ntkcl.data.loading.batches import TransformedImages
from ntkcl.errors import UserError
from ntkcl.methods.adapter_finetuning import AdapterFineTuning
from ntkcl.methods.ntk_cl.learner import NTKCL
from ntkcl.runs import resolve
from ntkcl.settings.models import Preprocessing, Training
from ntkcl.tasks import tasks_of
from ntkcl.training.checkpoint import Checkpoints, Stopped
from ntkcl.training.loop import learn_task
from ntkcl.training.train import train_task

CPU = torch.device("cpu")
NTKCL_COMMAND = Path(sys.executable).with_name("ntkcl")
ABOUT = {"digest": "d", "weights": "w"}
FIRST, SECOND = tasks_of([2, 3])
LEARNERS = {
    "ntk_cl": (NTKCL, NTKCL.Settings(adapter_width=4, prompts=2, fusion_heads=2), "sgd"),
    "adapter_finetuning": (AdapterFineTuning, AdapterFineTuning.Settings(adapter_width=4), "adamw"),
}


class Killed(BaseException):
    """Stands for the end of the process: nothing gets a chance to save."""


class Ending:
    """Training images at one batch of which something happens."""

    def __init__(self, images: TransformedImages, at: int, event) -> None:
        self.images, self.left, self.event = images, at, event

    def train_batches(self, batch_size, skip=0):
        return map(self.count, self.images.train_batches(batch_size, skip))

    def count(self, batch):
        if self.left == 0:
            self.event()
        self.left -= 1
        return batch

    def eval_batches(self):
        return self.images.eval_batches()


def images_of(task) -> TransformedImages:
    """Noise, cropped and mirrored at random."""
    labels = torch.arange(task.first_class, task.classes_seen).repeat(4)
    pixels = torch.randint(0, 256, (len(labels), 12, 12), generator=torch.Generator().manual_seed(task.index))
    pictures = [Image.fromarray(array) for array in pixels.to(torch.uint8).numpy()]
    return TransformedImages(pictures.__getitem__, labels, Preprocessing(), 8, 1, CPU)


def new_learner(name: str, **changed):
    """A learner, and the way to train it."""
    kind, own, optimizer = LEARNERS[name]
    torch.manual_seed(3)
    shape = dict(img_size=8, patch_size=4, in_chans=1, embed_dim=16, depth=3, num_heads=2, num_classes=0)
    training = Training(lr=0.05, epochs=3, batch_size=5, optimizer=optimizer)
    return kind(VisionTransformer(**shape), own.model_copy(update=changed)), training


def learner_after_first(name: str):
    """A learner that has learned the first task, and the way to train the second one."""
    learner, training = new_learner(name)
    learn_task(learner, FIRST, images_of(FIRST), training)
    return learner, training


def end(path: Path, name: str, end_at: int | None, event, pause: float, ahead: int):
    """Learn the second task, from the beginning or a checkpoint; what was learned, or None where it was ended."""
    learner, training = learner_after_first(name)
    checkpoints = Checkpoints(path, ABOUT, {"device": "test"}, pause)
    images = images_of(SECOND) if end_at is None else Ending(images_of(SECOND), end_at, event)
    try:
        log = learn_task(learner, SECOND, images, training, checkpoints=checkpoints, batches_per_frozen_pass=ahead)
    except (Killed, Stopped):
        return None
    checkpoints.delete()
    return (
        log.csv(),
        {name: tensor.numpy().tobytes() for name, tensor in learner.state().items()},
        torch.get_rng_state(),
    )


def killed(*arguments) -> None:
    raise Killed


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(sorted(LEARNERS)),
    ends=st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=1, max_size=3),
    pause=st.sampled_from([0, 0, 1e9]),
    ahead=st.sampled_from([1, 2]),
)
def test_ended_anywhere_and_started_again_gives_the_same_bytes(tmp_path, name, ends, pause, ahead):
    path = tmp_path / "checkpoint.safetensors"
    path.unlink(missing_ok=True)
    whole = end(path, name, None, None, 1e9, ahead)
    for at, by_signal in ends:
        event = (lambda: signal.raise_signal(signal.SIGTERM)) if by_signal else killed
        end(path, name, at, event, pause, ahead)
    log, state, random = end(path, name, None, None, pause, ahead)
    assert (log, state) == whole[:2]
    assert torch.equal(random, whole[2])
    assert not list(tmp_path.iterdir())


def test_a_signal_ends_it_after_the_step_and_says_where(tmp_path):
    learner, training = learner_after_first("ntk_cl")
    checkpoints = Checkpoints(tmp_path / "c", ABOUT, {}, 1e9)
    images = Ending(images_of(SECOND), 4, lambda: signal.raise_signal(signal.SIGTERM))
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with pytest.raises(Stopped, match=r"stopped by SIGTERM at task 1, epoch 2 of 3, step 5; the same"):
        learn_task(learner, SECOND, images, training, checkpoints=checkpoints)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def with_another_tensor(path: Path) -> None:
    """As an earlier version of the code may have written it."""
    with safe_open(path, "pt") as file:
        about = file.metadata()
    save_file(load_file(path) | {"learner/more": torch.zeros(1)}, path, about)


def test_what_comes_after_the_steps_can_be_ended_too(tmp_path, monkeypatch):
    """There a signal does what it always does; the steps are not done again."""
    path = tmp_path / "checkpoint.safetensors"
    whole = end(path, "ntk_cl", None, None, 1e9, 1)
    monkeypatch.setattr("ntkcl.training.loop.MIN_SAVED_SECONDS", 0)
    learner, training = learner_after_first("ntk_cl")
    images = Ending(images_of(SECOND), 100, killed)
    images.eval_batches = killed
    with pytest.raises(Killed):
        learn_task(learner, SECOND, images, training, checkpoints=Checkpoints(path, ABOUT, {}, 1e9))
    assert end(path, "ntk_cl", 0, killed, 1e9, 1)[:2] == whole[:2]  # no batch is taken


def test_a_checkpoint_of_another_state_before_is_left(tiny, capsys):
    """The task before was learned anew, with other bytes: what was saved of this one began with the old ones."""
    run = resolve("digits", "vit_tiny", "ntk_cl", 0)
    train_task(run, 0, CPU)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(UserError, match="No space"):
        patch.setattr("ntkcl.training.train.save_state", full_disk)
        train_task(run, 1, CPU, checkpoint_pause=0)
    saved = run.state_path(1).with_name("checkpoint.safetensors")
    assert saved.exists()
    with safe_open(run.state_path(0), "pt") as file:
        about = file.metadata()
    tensors = load_file(run.state_path(0))
    save_file(tensors | {"learner/prototypes": tensors["learner/prototypes"] + 1}, run.state_path(0), about)
    train_task(run, 1, CPU)
    assert "checkpoint.safetensors was written with other earlier tasks" in capsys.readouterr().err
    assert not saved.exists()


def full_disk(*arguments):
    raise UserError("No space left on device")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:2000]), "is damaged"),
        (lambda path: path.write_bytes(b"nothing of the kind"), "is damaged"),
        (lambda path: ABOUT.update(weights="others"), "was written with other weights (w, now others)"),
        (with_another_tensor, "has other tensors than this learner"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_said_and_left(tmp_path, capsys, monkeypatch, damage, said):
    path = tmp_path / "checkpoint.safetensors"
    monkeypatch.setitem(ABOUT, "weights", "w")
    whole = end(path, "ntk_cl", None, None, 1e9, 1)
    end(path, "ntk_cl", 4, killed, 0, 1)
    damage(path)
    assert end(path, "ntk_cl", None, None, 1e9, 1)[:2] == whole[:2]
    warning = capsys.readouterr().err
    assert said in warning and "the task starts from its beginning" in warning and warning.count("\n") == 1
    assert "going on" not in warning


def test_a_full_disk_leaves_the_checkpoint_before_and_training_goes_on(tmp_path, monkeypatch, capsys):
    path = tmp_path / "checkpoint.safetensors"
    end(path, "ntk_cl", 3, killed, 0, 1)
    before = path.read_bytes()

    def full(self, content):
        self.open("wb").write(content[:100])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        assert end(path, "ntk_cl", 5, killed, 0, 1) is None
        assert "warning: cannot write" in capsys.readouterr().err
        with pytest.raises(UserError, match="No space left on device"):
            end(path, "ntk_cl", 5, lambda: signal.raise_signal(signal.SIGTERM), 0, 1)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_command_goes_on_where_it_was_ended(tiny, number):
    """The real command, ended in the middle of its steps."""
    torch.set_num_threads(1)
    for variant in ("long", "whole"):
        text = (tiny / "params/methods/ntk_cl.yaml").read_text()
        (tiny / f"params/methods/{variant}.yaml").write_text(text.replace("epochs: 2", "epochs: 60"))
    whole = resolve("digits", "vit_tiny", "whole", 0)
    train_task(whole, 0, CPU)
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
        time.sleep(0.3)
        running.send_signal(number)
        output, error = running.communicate(timeout=60)
        assert running.returncode != 0, output
        assert number == signal.SIGKILL or f"error: stopped by {number.name} at task 0" in error
        assert checkpoint.exists() and not state.exists()
        stamp = checkpoint.stat().st_mtime_ns
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"resuming from {checkpoint.relative_to(tiny)}, after " in done.stderr
    expected = whole.state_path(0)
    assert state.with_name("losses.csv").read_bytes() == expected.with_name("losses.csv").read_bytes()
    tensors = load_file(state)
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in load_file(expected).items())
    assert not checkpoint.exists()
