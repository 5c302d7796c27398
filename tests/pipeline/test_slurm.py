"""The profile for Slurm on a real one, of this machine alone: the same bytes as locally, and nothing computed twice."""

import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from filelock import FileLock

from tests.helpers.projects import ENVIRONMENT, sh
from tests.helpers.slurm import CAN_START, HAS_OTHER, REASON, one_machine

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CAN_START or HAS_OTHER, reason=REASON),
]
STUDY = ["--config", "study=quickstart", "device=cpu"]
SNAKEMAKE = ["snakemake", "--profile", "workflow/profiles/slurm", "--latency-wait", "20"]
SNAKEMAKE += ["--slurm-init-seconds-before-status-checks", "2"]
SMALL = ["--set-threads", "train_task=1", "evaluate_run=1", "prepare_data=1"]
SMALL += ["--set-resources", "train_task:mem_mb=2000", "evaluate_run:mem_mb=2000", "prepare_data:mem_mb=2000"]
RUN = "runs/digits/vit_tiny/ntk_cl/seed0"


@pytest.fixture
def slurm():
    """A Slurm with a node of two cores, stopped at the end; processes of pytest take turns."""
    with FileLock("/run/lock/ntkcl-slurm-tests"):
        one_machine.start(cpus=2)
        yield one_machine
        one_machine.stop()


@pytest.fixture
def prepared(pipeline_finished, tmp_path):
    """A project with data and backbone, and no runs."""
    folder = shutil.copytree(pipeline_finished / "project", tmp_path / "project", symlinks=True)
    shutil.rmtree(folder / "runs")
    shutil.rmtree(folder / "reports")
    return folder


def queue() -> list[str]:
    return sh(Path("/"), "squeue", "-h", "-o", "%i").split()


def wait_for(is_there, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not is_there():
        assert time.monotonic() < end
        time.sleep(0.2)


def slow_down(folder: Path, epochs: int) -> None:
    path = folder / "params/methods/ntk_cl.yaml"
    path.write_text(re.sub(r"epochs: \d+", f"epochs: {epochs}", path.read_text()))


def test_a_run_has_the_bytes_of_a_local_one_and_one_allocation(slurm, prepared, pipeline_finished):
    shutil.rmtree(prepared / "data/digits")  # prepared by a job too
    sh(prepared, *SNAKEMAKE, *SMALL, *STUDY, "--", f"{RUN}/metrics.json")
    for name in ("metrics.json", "predictions.csv.gz"):
        assert (prepared / RUN / name).read_bytes() == (pipeline_finished / "project" / RUN / name).read_bytes()
    logs = sorted(str(path.relative_to(prepared / "logs/slurm")) for path in (prepared / "logs/slurm").rglob("*.log"))
    assert [log.partition("/")[0] for log in logs] == ["group_run_evaluate_run_train_task", "rule_prepare_data"]


@pytest.mark.parametrize(
    "options, message",
    [
        (
            SMALL[4:],
            r"ask for 8 CPUs \(at most 2\); no node of the default partition has them .*--set-threads .*train_task=2",
        ),
        ([*SMALL[:4], "--set-resources", "train_task:mem_mb=9000000"], r"train_task asks for 9000000 MB of memory"),
        (
            ["--config", "study=quickstart", "device=cuda", *SMALL],
            r"asks? for GPUs; no node of the default partition has them .* device=cpu",
        ),
    ],
)
def test_what_no_node_has_is_said_at_once(slurm, prepared, options, message):
    config = [] if "--config" in options else STUDY
    output = sh(prepared, *SNAKEMAKE, *options, *config, "--", f"{RUN}/metrics.json", code=1)
    assert re.search(f"^error: .*{message}", output, re.M), output
    assert not queue()


def test_after_the_head_was_killed_nothing_is_computed_twice(slurm, prepared, tmp_path):
    command = [*SNAKEMAKE, *SMALL, *STUDY, "--", f"{RUN}/metrics.json"]
    head = subprocess.Popen(command, cwd=prepared, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    wait_for(queue)
    assert "another pipeline runs in this folder" in sh(prepared, *command, code=1)
    head.send_signal(signal.SIGKILL)
    head.wait()
    output = sh(prepared, *command)
    assert re.search(r"waiting for the end of 1 jobs .* scancel \d+", output)
    assert len(list((prepared / "logs/slurm").rglob("*.log"))) == 1
    assert (prepared / f"{RUN}/metrics.json").exists()


def test_a_job_that_is_cancelled_within_a_task_resumes_there(slurm, prepared):
    slow_down(prepared, 100)
    expected = shutil.copytree(prepared, prepared.with_name("expected"), symlinks=True)
    sh(expected, "snakemake", "--cores", "1", "--", f"{RUN}/metrics.json")
    command = [*SNAKEMAKE, *SMALL, *STUDY, "--", f"{RUN}/metrics.json"]
    head = subprocess.Popen(command, cwd=prepared, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    log = prepared / RUN / "task1/log.txt"
    wait_for(lambda: log.exists() and "epoch 1 of" in log.read_text())
    (number,) = queue()
    sh(prepared, "scancel", number)
    output = head.communicate(timeout=240)[0].decode()
    assert head.returncode == 0, output
    assert "Traceback" not in output
    assert "task0/state.safetensors was finished before" in (prepared / RUN / "task0/log.txt").read_text()
    assert "resuming from" in log.read_text()
    for name in ("task0/state.safetensors", "task1/state.safetensors", "predictions.csv.gz"):
        assert (prepared / RUN / name).read_bytes() == (expected / RUN / name).read_bytes(), name
