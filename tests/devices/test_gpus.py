"""GPUs and the processes that compute on them. A script replaces the driver's nvidia-smi."""

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ntkcl.devices import gpus
from ntkcl.devices.compute import choose_device
from ntkcl.errors import UserError
from tests.helpers.projects import copy_pipeline

CLAIM = (
    "import sys; from ntkcl.devices import gpus; print(gpus.claim(sys.argv[2:], int(sys.argv[1])), flush=True); input()"
)
PROFILES = "workflow/profiles"


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """A function that sets the GPUs which nvidia-smi lists, for this process and those that it starts."""
    folder = tmp_path / "driver"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # with the locks of all processes

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
def test_cuda_visible_devices_is_honored(driver, monkeypatch, chosen, expected):
    driver("GPU-aa1", "GPU-ab2", "GPU-c3")
    if chosen is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    assert gpus.visible() == expected


def test_no_driver_is_no_gpu(driver, monkeypatch, tmp_path):
    driver("Failed to initialize NVML", code=9)
    assert gpus.visible() == []
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus.visible() == []


def test_which_devices_take_gpus(driver):
    driver("GPU-1")
    assert [gpus.use_gpus(device, is_local=True) for device in ("auto", "cpu", "cuda")] == [True, False, True]
    driver()
    assert [gpus.use_gpus(device, is_local=True) for device in ("auto", "cpu")] == [False, False]
    assert [gpus.use_gpus(device, is_local=False) for device in ("auto", "cpu", "cuda")] == [True, False, True]
    with pytest.raises(UserError, match="no GPU"):
        gpus.use_gpus("cuda", is_local=True)
    with pytest.raises(UserError, match="did you mean 'cuda'"):
        gpus.use_gpus("cudo", is_local=True)


@pytest.fixture
def claimer(driver):
    """A function that starts a process which reserves a GPU."""
    started = []

    def start(per_gpu: int, *devices: str) -> subprocess.Popen:
        command = [sys.executable, "-c", CLAIM, str(per_gpu), *devices]
        started.append(subprocess.Popen(command, stdin=-1, stdout=-1, stderr=-1, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_gpu_is_reserved_until_its_process_is_killed(claimer):
    first, second = claimer(1, "GPU-a", "GPU-b"), claimer(1, "GPU-a", "GPU-b")
    places = {int(process.stdout.readline()): process for process in (first, second)}
    assert places.keys() == {0, 1}
    third = claimer(1, "GPU-a", "GPU-b")
    assert "waiting: all 2 GPUs are reserved by 2 other jobs" in third.stderr.readline()
    places[1].kill()
    assert third.stdout.readline() == "1\n"


def test_processes_share_a_gpu_up_to_the_limit_and_take_free_ones_first(claimer):
    places = [int(claimer(2, "GPU-a", "GPU-b").stdout.readline()) for _ in range(4)]
    assert sorted(places[:2]) == sorted(places[2:]) == [0, 1]
    assert "waiting: all 2 GPUs are reserved by 4 other jobs" in claimer(2, "GPU-a", "GPU-b").stderr.readline()


def test_a_waiting_process_prints_who_has_the_gpu_and_what_to_do(claimer, tmp_path):
    claimer(1, "MIG-77/1").stdout.readline()  # a part of a GPU: its name has a slash
    message = claimer(1, "MIG-77/1").stderr.readline()
    assert "the GPU is reserved by 1 other job (" in message
    assert "--device cpu" in message
    (pattern,) = re.findall(r"lslocks names them by (\S+)\)", message)
    assert len(list(tmp_path.glob(pattern.removeprefix(f"{tmp_path}/")))) == 1


def test_a_process_that_does_not_wait_shares_a_reserved_gpu_and_prefers_a_free_one(claimer):
    first = claimer(1, "GPU-a")
    first.stdout.readline()
    code = (
        "import sys; from ntkcl.devices import gpus; print(gpus.claim(sys.argv[1:], wait=False), list(gpus._reserved))"
    )
    run = [sys.executable, "-c", code, "GPU-a"]
    assert subprocess.check_output(run, text=True, timeout=60) == "0 []\n"
    assert subprocess.check_output([*run, "GPU-b"], text=True, timeout=60) == "1 ['GPU-b']\n"


@pytest.mark.parametrize(
    ("name", "wait", "waits"),
    [("auto", True, True), ("auto", False, False), ("cuda", True, True), ("cuda", False, True)],
)
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_auto_may_share_a_reserved_gpu(claimer, name, wait, waits):
    uuids = gpus.visible()
    for _ in uuids:
        claimer(1, *uuids).stdout.readline()
    code = f"from ntkcl.devices.compute import choose_device; print(choose_device({name!r}, {wait}), flush=True)"
    chooser = subprocess.Popen([sys.executable, "-c", code], stdout=-1, stderr=-2, text=True)
    try:
        line = chooser.stdout.readline()
    finally:
        chooser.kill()
        chooser.communicate()
    assert line.startswith("waiting" if waits else "cuda:0")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_auto_is_the_cpu():
    assert choose_device("auto") == choose_device("auto", wait=False) == torch.device("cpu")
    with pytest.raises(UserError, match="--device cpu"):
        choose_device("cuda", wait=False)


@pytest.mark.parametrize(
    ("cores", "jobs", "expected"), [(16, 4, 4), (64, 4, 8), (16, 1, 8), (4, 8, 1), (16, 3, 5), (1, 1, 1), (4, 0, 4)]
)
def test_the_cores_are_divided_among_the_jobs(cores, jobs, expected):
    assert gpus.threads_each(cores, jobs) == expected
    assert expected * jobs <= cores or expected == 1


def test_a_second_claim_of_one_process_is_its_own_gpu(driver, tmp_path):
    code = "from ntkcl.devices.gpus import claim; print(claim(['GPU-a', 'GPU-b']), claim(['GPU-b', 'GPU-a']))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "0 1\n"


@pytest.mark.parametrize("value", ["0", "-1", "many", "1.5"])
def test_jobs_per_gpu_is_a_number(monkeypatch, value):
    monkeypatch.setenv(gpus.JOBS_PER_GPU, value)
    with pytest.raises(UserError, match="jobs_per_gpu"):
        gpus.jobs_per_gpu()


def with_pipeline(folder: Path, messages: bool = True) -> None:
    """Copy the workflow to `folder`; with Snakemake's own logger and without messages, a plan shows all resources."""
    copy_pipeline(folder)
    profile = folder / "profiles/default/config.yaml"
    profile.write_text(re.sub("logger:.*\n", "", profile.read_text()))
    for rules in [] if messages else (folder / "workflow/rules").iterdir():
        rules.write_text(re.sub(r" *message:\n.*\n", "", rules.read_text()))


def snakemake(*arguments: str, code: int = 0) -> str:
    done = subprocess.run(["snakemake", *arguments], text=True, stdout=-1, stderr=subprocess.STDOUT)
    assert done.returncode == code, done.stdout[-3000:]
    return done.stdout


def resources(plan: str, rule: str) -> list[dict[str, int]]:
    """Of each job of `rule` in a dry run, with its threads."""
    blocks = [text for text in plan.split("\n\n") if f"\nrule {rule}:" in text]
    found = [
        re.search(r"resources: (.*)", text)[1] + ", threads=" + re.search(r"threads (\d+)", text)[1] for text in blocks
    ]
    return [{key: int(value) for key, value in re.findall(r"(\w+)=(\d+)\b", text)} for text in found]


def times_of(folder: Path, *rules: str) -> list[tuple[float, float]]:
    """Start and end of each job of `rules`, in order, as Snakemake recorded them: once for each output."""
    records = [json.loads(path.read_text()) for path in (folder / ".snakemake/metadata").iterdir()]
    return sorted({str(r["log"]): (r["starttime"], r["endtime"]) for r in records if r["rule"] in rules}.values())


@pytest.mark.slow
def test_no_more_jobs_at_once_than_gpus(driver, tiny):
    """With two cores and one GPU, training and evaluation run one after the other."""
    driver("GPU-1")
    with_pipeline(tiny)
    output = snakemake("--cores", "2", "--jobs", "2", "dataset_digits")  # --jobs does not mean a cluster
    assert "gpu" in output.partition("Provided resources:")[2].splitlines()[0]
    jobs = times_of(tiny, "train_task", "evaluate_run")
    assert len(jobs) == 8
    assert all(start >= end for (_, end), (start, _) in itertools.pairwise(jobs))


@pytest.mark.slow
def test_the_limit_follows_jobs_per_gpu_and_yields_to_the_user(driver, tiny):
    driver("GPU-1", "GPU-2")
    with_pipeline(tiny)
    target = "runs/digits/vit_tiny/simplecil/seed0/metrics.json"
    assert 'gpu", 4' in snakemake("-j", "2", target, "--config", "jobs_per_gpu=2")
    shutil.rmtree("runs")
    assert 'gpu", 1' in snakemake("--cores", "2", target, "--resources", "gpu=1")


@pytest.mark.slow
def test_a_job_can_have_several_gpus(driver, tiny):
    """torchrun starts the jobs; torch has no GPU in this test, so they compute on the CPU."""
    driver("GPU-1", "GPU-2")
    with_pipeline(tiny)
    target = "runs/digits/vit_tiny/joint/seed0/metrics.json"
    output = snakemake("--cores", "2", "-p", target, "--config", "gpus_per_job=2")
    assert output.count("torchrun --standalone --nproc-per-node 2 -m ntkcl") == 2
    assert Path(target).exists()
    refused = snakemake("--cores", "2", target, "--config", "gpus_per_job=2", "jobs_per_gpu=2", code=1)
    assert "error: a job cannot both have several GPUs and share them" in refused
    assert "gpus_per_job is '0'" in snakemake("--cores", "2", target, "--config", "gpus_per_job=0", code=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ("--jobs", "2", "--config", "device=cuda"),
        ("--cores", "2", "--jobs", "2", "--config", "device=cuda"),
        ("--dry-run", "--jobs", "2", "--config", "device=cuda"),
        ("--dry-run", "--profile", f"{PROFILES}/workstation"),
    ],
)
def test_cuda_without_a_gpu_is_refused_before_anything_is_planned(driver, project, arguments):
    driver()
    with_pipeline(project)
    output = snakemake(*arguments, code=1)
    assert output.splitlines()[-1].startswith(
        "error: --config device=cuda, but nvidia-smi lists no GPU; choose device=cpu"
    )
    assert "Building DAG" not in output


@pytest.mark.slow
def test_jobs_on_this_machine_follow_its_gpus(driver, tiny):
    """Without a GPU, jobs request none and have one thread; with GPUs they share the cores."""
    with_pipeline(tiny, messages=False)
    plans = {}
    for count in (0, 1, 4):
        driver(*[f"GPU-{index}" for index in range(count)])
        plan = snakemake("--dry-run", "-p", "--cores", "16", "--jobs", "2", "all")
        jobs = [*resources(plan, "train_task"), *resources(plan, "evaluate_run")]
        assert len(jobs) == 8
        (plans[count],) = {(job["gpu"], job["threads"]) for job in jobs}
    assert plans == {0: (0, 1), 1: (1, 8), 4: (1, 4)}


RUN = "runs/{}/vit_b16_in21k/ntk_cl/seed0/metrics.json"


@pytest.mark.slow
def test_the_slurm_profile_requests_the_resources_of_the_jobs(driver, project):
    """The head node that plans it has no GPU."""
    driver()
    with_pipeline(project, messages=False)
    arguments = ["--dry-run", "-p", "--cores", "16", "--profile", f"{PROFILES}/slurm"]
    plan = snakemake(*arguments, "--", RUN.format("eurosat"), RUN.format("domainnet"))
    for rule, count in (("train_task", 5 + 15), ("evaluate_run", 2)):
        jobs = resources(plan, rule)
        assert len(jobs) == count
        assert {(job["gpu"], job["mem_mb"], job["threads"]) for job in jobs} == {(1, 8000, 8)}
        assert len({job["runtime"] for job in jobs}) == 2  # minutes, by the images of the dataset
        assert all(20 < job["runtime"] < 24 * 60 for job in jobs)
    (first, _) = resources(plan, "prepare_data")
    assert ("gpu" in first, first["threads"]) == (False, 8)


@pytest.mark.slow
def test_the_workstation_profile_plans_the_paper_on_gpus(driver, project):
    driver("GPU-1")
    with_pipeline(project, messages=False)
    target = RUN.format("cifar100")
    plan = snakemake("--dry-run", "-p", "--profile", f"{PROFILES}/workstation", "--cores", "4", "--", target)
    jobs = resources(plan, "train_task")
    assert len(jobs) == 10
    assert {(job["gpu"], job["threads"]) for job in jobs} == {(1, 4)}
