"""The real Snakefile and dvc.yaml on a tiny study, end to end: as a person runs them."""

import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
REPOSITORY = Path(__file__).parents[1]
TABLE = "reports/tables.tex"
ENVIRONMENT = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "WANDB_MODE": "offline"}
PARTS = ["Snakefile", "workflow", "profiles", "dvc.yaml", ".dvcignore", ".gitignore"]


def sh(folder: Path, *command: str, code: int = 0) -> str:
    """Run a command in a project; its output."""
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, text=True, stdout=-1, stderr=subprocess.STDOUT)
    assert done.returncode == code, f"{command} exited with {done.returncode}\n{done.stdout[-4000:]}"
    return done.stdout


def git(folder: Path, *arguments: str) -> str:
    name = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    return sh(folder, "git", *name, *arguments)


def new_project(folder: Path) -> Path:
    """A project with the real pipeline and the tiny study, in git."""
    shutil.copytree(REPOSITORY / "tests/tiny", folder)
    for part in PARTS:
        source = REPOSITORY / part
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, folder / part)
    git(folder, "init", "--quiet")
    sh(folder, "dvc", "init", "--quiet")
    sh(folder, "dvc", "config", "core.analytics", "false")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "project")
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The project after `dvc repro`, its results pushed to a local remote; do not change it."""
    folder = new_project(tmp_path_factory.mktemp("finished") / "project")
    sh(folder, "dvc", "repro")
    sh(folder, "dvc", "remote", "add", "--default", "here", str(folder.parent / "remote"))
    sh(folder, "dvc", "push")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "results")
    return folder


@pytest.fixture
def pulled(finished, tmp_path):
    """A clone elsewhere, with the results from the remote."""
    git(tmp_path, "clone", "--quiet", str(finished), "clone")
    sh(tmp_path / "clone", "dvc", "pull")
    return tmp_path / "clone"


def jobs(output: str) -> dict[str, int]:
    """How many jobs of each rule a plan has."""
    table = output.partition("Job stats:")[2].partition("total")[0].splitlines()[3:]
    return {row.split()[0]: int(row.split()[1]) for row in table if row.strip()}


def results(folder: Path) -> dict[str, bytes]:
    """The content of all metrics and predictions, and of the tables."""
    files = [
        *folder.glob("runs/**/metrics.json"),
        *folder.glob("runs/**/predictions.csv.gz"),
        *folder.glob("reports/t*"),
    ]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def times(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.glob("runs/**/state.safetensors")}


def test_everything_is_there(finished):
    assert (finished / "reports/figures/accuracy.png").exists()
    assert "NTK-CL" in (finished / "reports/tables.md").read_text()
    for rule in ("train", "evaluate", "track"):
        assert list(finished.glob(f"runs/**/{rule}.log")) or list(finished.glob("runs/**/log.txt"))
    predictions = gzip.decompress((finished / "runs/digits/vit_tiny/ntk_cl/seed0/predictions.csv.gz").read_bytes())
    assert predictions.decode().splitlines()[0] == "task,image,class,predicted,score"
    assert list(finished.glob("runs/digits/vit_tiny/ntk_cl/seed0/wandb/offline-run-*/run-*.wandb"))
    assert not list(finished.rglob("*.partial"))


def test_a_second_time_there_is_nothing_to_do(finished):
    assert "up to date" in sh(finished, "dvc", "repro")
    assert "Nothing to be done" in sh(finished, "snakemake", "--dry-run", TABLE)
    git(finished, "diff", "--exit-code")


def test_metrics_follow_from_the_predictions(finished):
    import pandas as pd

    from ntkcl.metrics import run_metrics

    for file in finished.glob("runs/**/metrics.json"):
        content = json.loads(file.read_text())
        predictions = pd.read_csv(file.with_name("predictions.csv.gz"))
        assert run_metrics(predictions, [6, 4], content["run"]["protocol"]) == content["metrics"]


def test_a_clone_that_pulls_has_nothing_to_recompute(pulled):
    assert "up to date" in sh(pulled, "dvc", "repro")
    assert "ntkcl adopt quickstart" in sh(pulled, "snakemake", "--dry-run", TABLE, code=1)
    assert "adopted 3 of 3 runs" in sh(pulled, "ntkcl", "adopt")
    assert "Nothing to be done" in sh(pulled, "snakemake", "--dry-run", TABLE)


def test_a_deleted_table_is_remade_alone(pulled):
    (pulled / TABLE).unlink()
    assert jobs(sh(pulled, "dvc", "repro", "--no-run-cache")) == {"tables": 1}
    (pulled / TABLE).unlink()
    assert jobs(sh(pulled, "snakemake", "--dry-run", TABLE)) == {"tables": 1}


@pytest.mark.parametrize("adopted", [True, False])
def test_a_changed_setting_reruns_that_methods_runs_alone(pulled, adopted):
    if adopted:
        sh(pulled, "ntkcl", "adopt")
    path = pulled / "params/methods/ntk_cl.yaml"
    path.write_text(path.read_text().replace("epochs: 2", "epochs: 1"))
    before = times(pulled)
    plan = jobs(sh(pulled, "dvc", "repro")) if adopted else jobs(_adopt_and_plan(pulled))
    after = times(pulled)
    assert plan["train_task"] == 2
    assert plan["evaluate_run"] == 1
    if adopted:
        assert {name for name in after if after[name] != before[name]} == {name for name in after if "ntk_cl" in name}
        assert "Nothing to be done" in sh(pulled, "snakemake", "--dry-run", TABLE)


def _adopt_and_plan(folder: Path) -> str:
    assert "adopted 2 of 3 runs; 1 to run" in sh(folder, "ntkcl", "adopt")
    return sh(folder, "snakemake", "--dry-run", TABLE)


def test_a_comment_in_the_settings_reruns_nothing(pulled):
    sh(pulled, "ntkcl", "adopt")
    path = pulled / "params/methods/ntk_cl.yaml"
    path.write_text("# a comment\n" + path.read_text())
    assert "Nothing to be done" in sh(pulled, "snakemake", "--dry-run", TABLE)


def test_killed_and_resumed_on_one_core_gives_the_same_bytes(finished, tmp_path):
    """Killed at once, with all its children, in the middle of training; what was finished stays as it is."""
    folder = new_project(tmp_path / "project")
    command = ["snakemake", "--nolock", "--cores", "1", TABLE]
    running = subprocess.Popen(command, cwd=folder, env=ENVIRONMENT, start_new_session=True, stdout=-3, stderr=-3)
    state = folder / "runs/digits/vit_tiny/ntk_cl/seed0/task0/state.safetensors"
    deadline = time.monotonic() + 300
    while not state.exists() and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    kept = times(folder)
    assert kept, "nothing was trained before the kill"
    missing = folder / "reports/tables.tex"
    assert not missing.exists()
    sh(folder, *command)
    again = times(folder)
    assert all(again[name] == kept[name] for name in kept)
    assert results(folder) == results(finished)


def test_a_typed_command_gives_the_pipelines_bytes(pulled):
    folder = pulled / "runs/digits/vit_tiny/ntk_cl/seed0"
    before = (folder / "task1/losses.csv").read_bytes(), (folder / "predictions.csv.gz").read_bytes()
    shutil.rmtree(folder / "task1")
    run = ["digits", "vit_tiny", "ntk_cl", "0"]
    sh(pulled, "ntkcl", "train", *run, "--task", "1")
    sh(pulled, "ntkcl", "evaluate", *run)
    assert before == ((folder / "task1/losses.csv").read_bytes(), (folder / "predictions.csv.gz").read_bytes())


def test_a_broken_run_keeps_the_others_and_says_why(finished, tmp_path):
    """One method's loss is not finite: its line is shown, the other runs finish, and mending it runs it alone."""
    folder = tmp_path / "project"
    shutil.copytree(finished, folder, symlinks=True)
    path = folder / "params/methods/joint.yaml"
    good = path.read_text()
    path.write_text(good.replace("epochs: 1", "epochs: 1, lr: 1.0e+30"))
    output = sh(folder, "snakemake", "--cores", "2", TABLE, code=1)
    assert "error: the loss is not finite at task 0" in output
    path.write_text(good)
    assert set(jobs(sh(folder, "snakemake", "--cores", "2", TABLE))) <= {
        "train_task", "evaluate_run", "track_run", "aggregate", "figures", "tables",
    }  # fmt: skip
    assert (folder / TABLE).exists()
