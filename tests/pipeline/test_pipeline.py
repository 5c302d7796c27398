"""The real Snakefile and dvc.yaml on a tiny study, end to end, as you run them."""

import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers.projects import ENVIRONMENT, git, jobs_in_plan, new_project, sh

pytestmark = pytest.mark.slow
TABLE = "reports/tables.tex"


@pytest.fixture
def finished(pipeline_finished):
    """The project after `dvc repro`, its results pushed to a local remote; do not change it."""
    return pipeline_finished / "project"


@pytest.fixture
def pulled(pipeline_finished, tmp_path):
    """A clone elsewhere, with the results from the remote."""
    return shutil.copytree(pipeline_finished / "clone", tmp_path / "clone", symlinks=True)


def results(folder: Path) -> dict[str, bytes]:
    """The content of all metrics and predictions, and of the tables."""
    files = [
        *folder.glob("runs/**/metrics.json"),
        *folder.glob("runs/**/predictions.csv.gz"),
        *folder.glob("reports/t*"),
    ]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def times(folder: Path) -> dict[str, int]:
    return {
        str(path.relative_to(folder)): path.stat().st_mtime_ns
        for path in folder.glob("runs/**/task?/state.safetensors")
    }


def test_all_results_exist(finished):
    for name in ("accuracy", "matrices", "forgetting"):
        assert (finished / f"reports/figures/{name}.png").exists() and (
            finished / f"reports/figures/{name}.pdf"
        ).exists()
    for kind in ("tex", "md", "html"):
        assert "NTK-CL" in (finished / f"reports/tables.{kind}").read_text()
    for log in ("task0/log.txt", "evaluate.log", "../wandb.log"):
        assert (finished / "runs/digits/vit_tiny/ntk_cl/seed0" / log).exists()
    predictions = gzip.decompress((finished / "runs/digits/vit_tiny/ntk_cl/seed0/predictions.csv.gz").read_bytes())
    assert predictions.decode().splitlines()[0] == "task,image,class,predicted,score"
    assert list(finished.glob("runs/digits/vit_tiny/ntk_cl/seed0/wandb/offline-run-*/run-*.wandb"))
    assert not list(finished.rglob("*.partial"))


def test_a_second_time_there_is_nothing_to_do(finished):
    assert "up to date" in sh(finished, "dvc", "repro")
    assert "Nothing to be done" in sh(finished, "snakemake", "--dry-run", TABLE)
    git(finished, "diff", "--exit-code")


def test_metrics_follow_from_the_predictions(finished):
    from ntkcl.metrics.continual import read_predictions, run_metrics

    for file in finished.glob("runs/**/metrics.json"):
        content = json.loads(file.read_text())
        predictions = read_predictions(file.with_name("predictions.csv.gz"))
        assert run_metrics(predictions, [6, 4], content["run"]["protocol"]) == content["metrics"]


def test_a_clone_that_pulls_has_nothing_to_recompute(pulled):
    assert "up to date" in sh(pulled, "dvc", "repro")
    output = sh(pulled, "snakemake", "--dry-run", TABLE)
    assert "found results of 3 of 3 runs" in output
    assert "Nothing to be done" in output
    assert "found results" not in sh(pulled, "snakemake", "--dry-run", TABLE)


RUN = "runs/digits/vit_tiny/ntk_cl/seed0"


@pytest.mark.parametrize(
    "name,expected",
    [
        (f"{RUN}/predictions.csv.gz", {"evaluate_run": 1}),
        (f"{RUN}/metrics.json", {"evaluate_run": 1}),
        (f"{RUN}/task0/state.safetensors", {"train_task": 1}),
        ("data/digits/images.safetensors", {}),
        ("backbones/vit_tiny.safetensors", {}),
    ],
)
def test_the_remedy_for_a_damaged_file_works_as_it_is_printed(pulled, name, expected):
    """The file is made again, with the bytes that it had, and the tables are made without computing the rest again."""
    path = pulled / name
    content = path.read_bytes()
    path.write_bytes(content[:-20] + bytes([content[-20] ^ 1]) + content[-19:])
    read = {
        "predictions.csv.gz": "from ntkcl.metrics.continual import read_predictions as read",
        "metrics.json": "from ntkcl.storage.files import read_json as read",
        "state.safetensors": "from ntkcl.classifier import Classifier; read = Classifier.load",
        "images.safetensors": "from ntkcl.data.prepared import prepare; read = lambda _: prepare.load_images('digits')",
        "vit_tiny.safetensors": "from ntkcl.backbones.files import load_vit; read = lambda _: load_vit('vit_tiny')",
    }[path.name]
    code = f"from pathlib import Path; {read}; read(Path('{name}'))"
    error = sh(pulled, sys.executable, "-c", code, code=1)
    if path.name == "state.safetensors":  # what the pipeline prints; the library does not know it
        error = f"delete {path.parent} and run `snakemake --cores all {name}`"
    if "delete" in error:
        (shutil.rmtree if path.name == "state.safetensors" else Path.unlink)(
            path.parent if path.name == "state.safetensors" else path
        )
    command = re.search(r"`([^`]+)`", error)[1]
    output = sh(pulled, *command.replace("--cores all", "--cores 1").split())
    assert path.read_bytes() == content
    done = jobs_in_plan(output)
    assert {rule: done[rule] for rule in ("train_task", "evaluate_run") if rule in done} == expected


def test_deleted_predictions_are_made_again_by_the_tables(pulled):
    (pulled / RUN / "predictions.csv.gz").unlink()
    assert jobs_in_plan(sh(pulled, "snakemake", "--dry-run", TABLE))["evaluate_run"] == 1


@pytest.mark.parametrize("command", [("dvc", "repro", "--no-run-cache"), ("snakemake", "--cores", "2", TABLE)])
def test_only_a_deleted_table_is_written_again(pulled, command):
    (pulled / TABLE).unlink()
    assert jobs_in_plan(sh(pulled, *command)) == {"tables": 1}
    assert (pulled / TABLE).exists()


@pytest.mark.parametrize("known", [True, False])
def test_a_changed_setting_reruns_that_methods_runs_alone(pulled, known):
    if known:
        sh(pulled, "snakemake", "--dry-run", TABLE)
    path = pulled / "params/methods/ntk_cl.yaml"
    path.write_text(path.read_text().replace("epochs: 2", "epochs: 1"))
    before = times(pulled)
    output = sh(pulled, "dvc", "repro")
    assert jobs_in_plan(output) == {"train_task": 2, "evaluate_run": 1, "log_wandb": 1}
    assert ("found results of 2 of 3 runs; 1 more have other settings" in output) != known
    after = times(pulled)  # unknown results that were recorded have a new time
    if known:
        assert {name for name in after if after[name] != before[name]} == {name for name in after if "ntk_cl" in name}
    assert "Nothing to be done" in sh(pulled, "snakemake", "--dry-run", TABLE)


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        ("backbones.yaml", "steps: 40", "steps: 41", {"pretrain_backbone": 1, "train_task": 5}),
        ("datasets/digits.yaml", "classes: 10", "class_order_seed: 7\nclasses: 10", {"train_task": 5}),
        ("methods/ntk_cl.yaml", "label: NTK-CL", "label: NTK-CL*", {"tables": 1}),
    ],
)
def test_what_a_changed_file_reruns(pulled, file, old, new, expected):
    """Also when no run that was pulled is of the present settings."""
    path = pulled / "params" / file
    path.write_text(path.read_text().replace(old, new))
    plan = jobs_in_plan(sh(pulled, "snakemake", "--dry-run", TABLE))
    assert {name: plan.get(name) for name in expected} == expected
    assert ("train_task" in plan) == ("train_task" in expected)
    assert "changed deps" in sh(pulled, "dvc", "status")


def test_another_study_is_chosen_as_the_readme_says(pulled):
    other = (pulled / "params/studies/quickstart.yaml").read_text().replace("[simplecil, ntk_cl, joint]", "[simplecil]")
    (pulled / "params/studies/other.yaml").write_text(other)
    plan = jobs_in_plan(sh(pulled, "snakemake", "--dry-run", "--cores", "all", TABLE, "--config", "study=other"))
    assert plan == {"aggregate": 1, "figures": 1, "tables": 1}
    assert "unknown configuration 'stduy'" in sh(pulled, "snakemake", "--dry-run", TABLE, "--config", "stduy=x", code=1)


def test_two_pipelines_in_one_folder(finished, tmp_path):
    folder = tmp_path / "project"
    shutil.copytree(finished, folder, symlinks=True)
    (folder / TABLE).unlink()
    lock = "from ntkcl.storage.lock import lock_until_exit; from pathlib import Path;"
    lock += "lock_until_exit(Path('.snakemake/running')); input()"
    other = subprocess.Popen([sys.executable, "-c", lock], cwd=folder, stdin=subprocess.PIPE)
    time.sleep(2)
    assert "error: another pipeline runs in this folder" in sh(folder, "snakemake", "--cores", "1", TABLE, code=1)
    other.kill()
    other.wait()
    sh(folder, "snakemake", "--cores", "1", TABLE)


def test_a_comment_in_the_settings_reruns_nothing(pulled):
    path = pulled / "params/methods/ntk_cl.yaml"
    path.write_text("# a comment\n" + path.read_text())
    assert "Nothing to be done" in sh(pulled, "snakemake", "--dry-run", TABLE)


def test_killed_and_resumed_on_one_core_gives_the_same_bytes(finished, tmp_path):
    """Killed in the middle of training, with all its children: finished tasks stay as they are."""
    folder = shutil.copytree(finished, tmp_path / "project", symlinks=True)
    shutil.rmtree(folder / "runs")
    shutil.rmtree(folder / "reports")
    command = ["snakemake", "--cores", "1", TABLE]
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
    """One method's loss is not finite: its error is shown, the other runs finish, and a correction runs it alone."""
    folder = tmp_path / "project"
    shutil.copytree(finished, folder, symlinks=True)
    shutil.rmtree(folder / "runs/digits/vit_tiny/simplecil")
    path = folder / "params/methods/joint.yaml"
    good = path.read_text()
    path.write_text(good.replace("epochs: 1", "epochs: 1, lr: 1.0e+30"))
    output = sh(folder, "snakemake", "--cores", "2", TABLE, code=1)
    assert "error: the loss is not finite at task 0" in output
    assert (folder / "runs/digits/vit_tiny/simplecil/seed0/metrics.json").exists()
    path.write_text(good)
    assert jobs_in_plan(sh(folder, "snakemake", "--cores", "2", TABLE))["train_task"] == 1
    assert (folder / TABLE).exists()


def test_a_folder_with_an_odd_name(tmp_path):
    """Nothing in it is taken for a command."""
    folder = new_project(tmp_path / """it's a "test"; touch made1; $(touch made2) {x} é""")
    path = "runs/digits/vit_tiny/ntk_cl/seed0/metrics.json"
    sh(folder, "snakemake", "--cores", "2", path)
    assert (folder / path).exists()
    assert not list(tmp_path.rglob("made?"))
    for setting in ("device=cpu; touch made3", "gpus_per_job=1; touch made4", "study=quickstart; touch made5"):
        output = sh(folder, "snakemake", "--cores", "1", path, "--config", setting, code=1)
        assert "error: " in output and "Traceback" not in output
    assert not list(tmp_path.rglob("made?"))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a file system")
def test_a_project_that_cannot_be_written(tmp_path):
    if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", tmp_path], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("file systems cannot be mounted here")
    try:
        folder = new_project(tmp_path / "project")
        sh(folder, "mount", "-o", "remount,ro", str(tmp_path))
        output = sh(folder, "snakemake", "--cores", "1", TABLE, code=1)
        assert "error: cannot write into" in output and "Traceback" not in output
    finally:
        subprocess.run(["umount", "--lazy", tmp_path], check=True)
