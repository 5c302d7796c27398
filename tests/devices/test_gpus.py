"""GPUs and the processes that compute on them. A script replaces the driver's nvidia-smi."""

import re
import subprocess
import sys

import pytest
import torch

from ntkcl.devices import gpus
from ntkcl.devices.compute import choose_device
from ntkcl.errors import UserError

CLAIM = (
    "import sys; from ntkcl.devices import gpus; print(gpus.claim(sys.argv[2:], int(sys.argv[1])), flush=True); input()"
)


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
