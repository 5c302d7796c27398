"""Which GPUs there are, and who computes on them. A script stands in for the driver's nvidia-smi."""

import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ntkcl import gpus
from ntkcl.errors import UserError

REPOSITORY = Path(__file__).parents[1]
CLAIM = "import sys; from ntkcl import gpus; print(gpus.claim(sys.argv[2:], int(sys.argv[1])), flush=True); input()"


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """A function that sets the GPUs which nvidia-smi lists, for this process and those that it starts."""
    folder = tmp_path / "driver"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # where the locks of other processes lie

    def lists(*uuids: str, code: int = 0) -> None:
        script = folder / "nvidia-smi"
        script.write_text("#!/bin/sh\n" + "".join(f"echo {uuid}\n" for uuid in uuids) + f"exit {code}\n")
        script.chmod(0o755)

    return lists


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        (None, ["GPU-aa1", "GPU-ab2", "GPU-c3"]),
        ("2,0", ["GPU-c3", "GPU-aa1"]),
        ("GPU-ab, GPU-c3", ["GPU-ab2", "GPU-c3"]),
        ("MIG-77/1", ["MIG-77/1"]),
        ("0,-1,1", ["GPU-aa1"]),
        ("7", []),
        ("GPU-a", []),
        ("", []),
        ("NoDevFiles", []),
    ],
)
def test_cuda_visible_devices_is_honoured(driver, monkeypatch, chosen, expected):
    driver("GPU-aa1", "GPU-ab2", "GPU-c3")
    if chosen is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    assert gpus.visible() == expected


def test_no_driver_is_no_gpu(driver, monkeypatch, tmp_path):
    driver("Failed to initialize NVML", code=9)
    assert gpus.visible() == []
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus.visible() == []


def test_who_gets_a_gpu(driver):
    driver("GPU-1")
    assert [gpus.wanted(device, here=True) for device in ("auto", "cpu", "cuda")] == [True, False, True]
    driver()
    assert [gpus.wanted(device, here=True) for device in ("auto", "cpu")] == [False, False]
    assert [gpus.wanted(device, here=False) for device in ("auto", "cpu", "cuda")] == [True, False, True]
    with pytest.raises(UserError, match="no GPU"):
        gpus.wanted("cuda", here=True)
    with pytest.raises(UserError, match="did you mean 'cuda'"):
        gpus.wanted("cudo", here=True)


@pytest.fixture
def claimer(driver):
    """A function that starts a process which claims a GPU and holds it."""
    started = []

    def start(per_gpu: int, *devices: str) -> subprocess.Popen:
        command = [sys.executable, "-c", CLAIM, str(per_gpu), *devices]
        started.append(subprocess.Popen(command, stdin=-1, stdout=-1, stderr=-1, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_gpu_is_one_process_s_until_that_is_killed(claimer):
    first, second = claimer(1, "GPU-a", "GPU-b"), claimer(1, "GPU-a", "GPU-b")
    places = {int(process.stdout.readline()): process for process in (first, second)}
    assert places.keys() == {0, 1}
    third = claimer(1, "GPU-a", "GPU-b")
    assert "waiting: all 2 GPUs are taken" in third.stderr.readline()
    places[1].kill()
    assert third.stdout.readline() == "1\n"


def test_as_many_share_a_gpu_as_are_allowed_and_they_spread_first(claimer):
    places = [int(claimer(2, "GPU-a", "GPU-b").stdout.readline()) for _ in range(4)]
    assert sorted(places[:2]) == sorted(places[2:]) == [0, 1]
    assert "waiting" in claimer(2, "GPU-a", "GPU-b").stderr.readline()


def test_a_second_claim_of_one_process_is_its_own_gpu(driver, tmp_path):
    code = "from ntkcl.gpus import claim; print(claim(['GPU-a', 'GPU-b']), claim(['GPU-b', 'GPU-a']))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "0 1\n"


@pytest.mark.parametrize("value", ["0", "-1", "many", "1.5"])
def test_jobs_per_gpu_is_a_number(monkeypatch, value):
    monkeypatch.setenv(gpus.JOBS_PER_GPU, value)
    with pytest.raises(UserError, match="jobs_per_gpu"):
        gpus.jobs_per_gpu()


def with_pipeline(folder: Path) -> None:
    shutil.copy(REPOSITORY / "Snakefile", folder)
    shutil.copytree(REPOSITORY / "workflow", folder / "workflow")
    (folder / "profiles").symlink_to("workflow/profiles")


def snakemake(*arguments: str, code: int = 0) -> str:
    done = subprocess.run(["snakemake", *arguments], text=True, stdout=-1, stderr=subprocess.STDOUT)
    assert done.returncode == code, done.stdout[-3000:]
    return done.stdout


def times_of(folder: Path, *rules: str) -> list[tuple[float, float]]:
    """Start and end of each job of `rules`, in order, as Snakemake recorded them: once for each output."""
    records = [json.loads(path.read_text()) for path in (folder / ".snakemake/metadata").iterdir()]
    return sorted({str(r["log"]): (r["starttime"], r["endtime"]) for r in records if r["rule"] in rules}.values())


@pytest.mark.slow
def test_no_more_jobs_at_once_than_gpus(driver, tiny):
    """Two cores and one GPU: training and evaluation one after the other, whatever the run."""
    driver("GPU-1")
    with_pipeline(tiny)
    output = snakemake("--cores", "2", "dataset_digits")
    assert "gpu" in output.partition("Provided resources:")[2].splitlines()[0]
    jobs = times_of(tiny, "train_task", "evaluate_run")
    assert len(jobs) == 8
    assert all(start >= end for (_, end), (start, _) in itertools.pairwise(jobs))


@pytest.mark.slow
def test_the_limit_follows_jobs_per_gpu_and_yields_to_the_user(driver, tiny):
    driver("GPU-1", "GPU-2")
    with_pipeline(tiny)
    target = "runs/digits/vit_tiny/simplecil/seed0/metrics.json"
    assert 'gpu", 4' in snakemake("--cores", "2", target, "--config", "jobs_per_gpu=2")
    shutil.rmtree("runs")
    assert 'gpu", 1' in snakemake("--cores", "2", target, "--resources", "gpu=1")


@pytest.mark.slow
def test_cuda_without_a_gpu_is_refused_before_anything_is_planned(driver, tiny):
    driver()
    with_pipeline(tiny)
    output = snakemake("--cores", "1", "--config", "device=cuda", code=1)
    assert output.splitlines()[-1].startswith("error: --config device=cuda, but nvidia-smi lists no GPU here")
    assert "Building DAG" not in output
    assert "evaluate_run" in snakemake("--dry-run", "all")
