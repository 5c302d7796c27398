"""A finished task whose files were deleted, as Snakemake does after a job that it takes for failed, is not lost."""

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from ntkcl.errors import UserError
from ntkcl.runs import Run, resolve
from ntkcl.storage import provenance
from ntkcl.training import finished as second_names
from ntkcl.training import train
from ntkcl.training.finished import FOLDER, FinishedTask
from ntkcl.training.state import next_task_path
from ntkcl.training.train import train_task
from tests.helpers.learners import CPU
from tests.training.test_two_part_states import METHOD


@pytest.fixture
def run(finished) -> Run:
    """A run that has learned both of its tasks."""
    return resolve("digits", "vit_tiny", "ntk_cl", 0)


@pytest.fixture
def cannot_train(monkeypatch):
    """Training fails."""

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("trains")

    monkeypatch.setattr(train, "learn_task", fail)


def made_on(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    made = train.provenance("cpu", "float32")
    monkeypatch.setattr(train, "provenance", lambda *_: made | {"device": device})


def delete_outputs(run: Run, *tasks: int) -> None:
    for index in tasks:
        run.state_path(index).unlink()
        run.state_path(index).with_name("losses.csv").unlink()


def files(run: Run) -> list[bytes]:
    paths = [run.state_path(index).with_name(name) for index in (0, 1) for name in ("state.safetensors", "losses.csv")]
    return [path.read_bytes() for path in paths]


def test_its_files_have_their_names_again_and_nothing_is_trained(run, cannot_train, capfd):
    before, losses = files(run), run.state_path(0).with_name("losses.csv").read_text()
    delete_outputs(run, 0, 1)
    assert train_task(run, 0, CPU).csv() == losses
    train_task(run, 1, CPU)
    assert files(run) == before
    assert "was finished before" in capfd.readouterr().err


def test_a_command_that_is_given_while_the_state_is_there_trains(run, cannot_train):
    with pytest.raises(AssertionError, match="trains"):
        train_task(run, 1, CPU)


@pytest.mark.parametrize("fault", ["damaged", "settings", "code", "images"])
def test_what_does_not_fit_any_more_is_trained_again(run, cannot_train, monkeypatch, fault):
    delete_outputs(run, 0)
    if fault == "damaged":
        path = run.state_path(0).parent / FOLDER / "state.safetensors"
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif fault == "settings":
        run = replace(run, digest="0" * len(run.digest))
    elif fault == "code":
        package = Path(shutil.copytree(provenance.CODE, "package"))  # with changes that are not committed
        (package / "methods/new.py").write_text("CHANGED = True")
        monkeypatch.setattr(provenance, "CODE", package)
    else:
        summary = train.stream_of(run).summary
        monkeypatch.setattr(train, "stream_of", lambda _: SimpleNamespace(summary=summary | {"content": "others"}))
    with pytest.raises((AssertionError, AttributeError), match=r"trains|train_images"):
        train_task(run, 0, CPU)
    assert not run.state_path(0).exists()


def test_the_second_file_comes_back_with_its_state(tiny, monkeypatch):
    Path("params/methods/ranpac.yaml").write_text(METHOD, encoding="utf-8")
    run = resolve("digits", "vit_tiny", "ranpac", 0)
    train_task(run, 0, CPU)
    second = next_task_path(run.state_path(0))
    before = second.read_bytes()
    second.unlink()
    delete_outputs(run, 0)
    with monkeypatch.context() as patch:
        patch.setattr(train, "learn_task", None)
        train_task(run, 0, CPU)
    assert second.read_bytes() == before
    train_task(run, 1, CPU)  # which deletes it, under both names
    assert not list(run.state_path(0).parent.rglob("next_task.safetensors"))
    delete_outputs(run, 0)
    with monkeypatch.context() as patch:
        patch.setattr(train, "learn_task", None)
        train_task(run, 0, CPU)
    assert run.state_path(0).exists()


def test_an_earlier_task_that_is_trained_again_elsewhere_is_the_one_that_counts(tiny, monkeypatch):
    """What only task 1 reads was deleted, so task 0 is trained again; task 1 rests on its new bytes."""
    Path("params/methods/ranpac.yaml").write_text(METHOD, encoding="utf-8")
    run = resolve("digits", "vit_tiny", "ranpac", 0)
    train_task(run, 0, CPU)
    train_task(run, 1, CPU)
    shutil.rmtree(run.state_path(1).parent)
    made_on(monkeypatch, "another CPU")
    train_task(run, 1, CPU)
    delete_outputs(run, 1)
    monkeypatch.setattr(train, "learn_task", None)
    train_task(run, 1, CPU)
    assert run.state_path(1).exists()


@pytest.mark.parametrize("missing", ["losses.csv", "state.safetensors"])
def test_a_second_name_that_is_missing(run, cannot_train, missing):
    delete_outputs(run, 0)
    (run.state_path(0).parent / FOLDER / missing).unlink()
    with pytest.raises(AssertionError, match="trains"):
        train_task(run, 0, CPU)


def test_a_disk_that_is_full_afterwards_fails_no_task(run, monkeypatch):
    def full(*_: object) -> None:
        raise UserError("cannot write about.json: No space left on device")

    monkeypatch.setattr(second_names, "write_sealed_json", full)
    FinishedTask(run.state_path(0).parent, {}).keep(run.state_path(0))
    assert run.state_path(0).exists()
