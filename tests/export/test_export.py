"""`ntkcl export`: what it writes is taken on another machine, and nothing is written from what does not fit."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from huggingface_hub import ModelCard
from rocrate.rocrate import ROCrate

from ntkcl import Classifier
from ntkcl.commands.cli import main
from ntkcl.commands.report import digests
from ntkcl.reporting.collect import aggregate
from ntkcl.reporting.tables.write import write_tables
from ntkcl.runs import Run, resolve
from ntkcl.storage.files import read_json
from ntkcl.training.evaluate import evaluate
from ntkcl.training.train import train_task
from tests.helpers.digit_images import write_folder
from tests.helpers.learners import CPU


def ntkcl(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["export", *arguments])


@pytest.fixture
def run(finished: Path) -> Run:
    aggregate("quickstart", digests("quickstart"))
    write_tables()
    return resolve("digits", "vit_tiny", "ntk_cl", 0)


RUN = ("run", "digits", "vit_tiny", "ntk_cl", "0")


def test_a_state_predicts_elsewhere_as_at_home(run, tmp_path, monkeypatch):
    images = sorted(write_folder(tmp_path / "photos", "0123456789", each=3).rglob("*.png"))
    for task in range(len(run.tasks)):
        at_home = Classifier.load(run.state_path(task), device="cpu").predict(images)
        elsewhere = tmp_path / f"elsewhere{task}"
        assert ntkcl(*RUN, "--task", str(task), "--to", str(elsewhere)).exit_code == 0
        with monkeypatch.context() as there:
            there.chdir(elsewhere)
            assert Classifier.load("state.safetensors", device="cpu").predict(images) == at_home
        card = ModelCard.load(elsewhere / "README.md")
        (number,) = card.data.eval_results
        assert number.metric_value == read_json(run.folder / "metrics.json")["metrics"]["accuracy"][task]


def test_a_study_has_what_its_tables_rest_on(run, tmp_path, monkeypatch):
    result = ntkcl("study", "--states", "--to", str(tmp_path / "study"))
    assert result.exit_code == 0, result.output
    for path in (
        "reports/tables.tex",
        "params/studies/quickstart.yaml",
        run.state_path(1),
        run.folder / "metrics.json",
    ):
        assert (tmp_path / "study" / path).read_bytes() == Path(path).read_bytes()
    crate = ROCrate(tmp_path / "study")
    assert crate.name == aggregate("quickstart", digests("quickstart")).title
    monkeypatch.chdir(tmp_path / "study")  # its numbers follow from its predictions
    Path("reports").rename("exported")
    aggregate("quickstart", digests("quickstart"))
    write_tables()
    assert Path("reports/tables.tex").read_bytes() == Path("exported/tables.tex").read_bytes()


def test_equal_studies_are_exported_to_equal_bytes(run, tmp_path):
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        assert ntkcl("study", "--to", str(folder)).exit_code == 0
    first, second = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in folders
    )
    assert first == second


@pytest.mark.parametrize("command", [RUN, ("study",)])
def test_what_is_damaged_is_not_exported(run, command):
    path = run.state_path(1)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    result = ntkcl(*command)
    assert result.exit_code == 1
    assert "task1/state.safetensors is damaged" in result.output
    assert not Path("exports").exists()


def test_nothing_is_overwritten(run):
    assert ntkcl(*RUN).exit_code == 0
    (folder,) = Path("exports").iterdir()
    (folder / "README.md").write_text("mine")
    result = ntkcl(*RUN)
    assert result.exit_code == 1
    assert f"{folder} exists" in result.output
    assert (folder / "README.md").read_text() == "mine"


def test_a_run_that_has_not_finished(run):
    (run.folder / "metrics.json").unlink()
    result = ntkcl(*RUN)
    assert result.exit_code == 1
    assert "metrics.json is missing" in result.output


def test_a_folder_that_cannot_be_written(run, tmp_path):
    (tmp_path / "file").touch()
    result = ntkcl(*RUN, "--to", str(tmp_path / "file" / "inside"))
    assert result.exit_code == 1
    assert "cannot write" in result.output


def test_a_joint_run_has_the_accuracy_on_all_classes(run, tmp_path):
    joint = resolve("digits", "vit_tiny", "joint", 0)
    train_task(joint, 0, CPU)
    evaluate(joint, CPU)
    assert ntkcl("run", "digits", "vit_tiny", "joint", "0", "--to", str(tmp_path / "joint")).exit_code == 0
    card = ModelCard.load(tmp_path / "joint/README.md")
    (number,) = card.data.eval_results
    assert number.metric_value == read_json(joint.folder / "metrics.json")["metrics"]["final_accuracy"]
    assert "learned at once" in card.text
