"""The GPUs of this machine, and their reservation by processes. `nvidia-smi` lists them: torch is not imported."""

import fcntl
import math
import os
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path
from typing import Any

from ntkcl.errors import UserError, nearest

JOBS_PER_GPU = "NTKCL_JOBS_PER_GPU"
POLL_SECONDS = 0.5  # between two attempts to reserve a GPU
MAX_THREADS_PER_JOB = 8  # with more, reading and cropping images gains little
_reserved: dict[str, int] = {}  # the locks of this process; the operating system releases them when it ends


def visible() -> list[str]:
    """Return the UUIDs of the GPUs that this process may use, in CUDA's order; none without a driver."""
    try:
        command = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    present = [line.strip() for line in done.stdout.splitlines() if line.startswith("GPU-")]
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    return present if chosen is None else _chosen(chosen, present)


def _chosen(words: str, present: list[str]) -> list[str]:
    """Parse CUDA_VISIBLE_DEVICES: indices, or prefixes of UUIDs, up to the first that is neither."""
    chosen = []
    for word in words.split(","):
        word = word.strip()
        found = present[int(word) : int(word) + 1] if word.isdigit() else [u for u in present if u.startswith(word)]
        if word.startswith("MIG-"):  # a part of a GPU, which the driver lists elsewhere
            found = [word]
        if not word or len(found) != 1:
            break
        chosen += found
    return chosen


def use_gpus(device: str, is_local: bool) -> bool:
    """Return whether each of the pipeline's jobs takes a GPU.

    Args:
        device: "cpu", "cuda", or "auto" for GPUs if this machine has them.
        is_local: the jobs run on this machine; a cluster is asked for GPUs unless `device` is "cpu".

    Raises:
        UserError: GPUs are asked for and there are none, or `device` is something else.
    """
    if device not in (devices := ("auto", "cpu", "cuda")):
        raise UserError(f"unknown device '{device}' (--config device=...); {nearest(device, devices)}")
    if device == "cpu" or not is_local:
        return device != "cpu"
    found = bool(visible())
    if device == "cuda" and not found:
        raise UserError("--config device=cuda, but nvidia-smi lists no GPU; choose device=cpu, or install a driver")
    return found


def jobs_per_gpu() -> int:
    """Return the number of jobs that may share a GPU, which the pipeline passes in the environment; 1 elsewhere.

    Raises:
        UserError: it is not a whole number above 0.
    """
    value = os.environ.get(JOBS_PER_GPU, "1")
    if not value.isdigit() or int(value) < 1:
        raise UserError(f"jobs_per_gpu is '{value}'; give a whole number of jobs, 1 or more")
    return int(value)


def per_job(value: Any, device_is_gpu: bool) -> int:
    """Return the number of GPUs of a job, one process each; 0 if it takes none.

    Args:
        value: of the configuration `gpus_per_job`.
        device_is_gpu: whether the jobs take GPUs.

    Raises:
        UserError: it is not a whole number above 0, there are no GPUs to have several of, or jobs would share them.
    """
    if not str(value).isdigit() or int(value) < 1:
        raise UserError(f"gpus_per_job is '{value}'; give a whole number of GPUs, 1 or more")
    if int(value) > 1 and not device_is_gpu:
        raise UserError(f"gpus_per_job={value}, but no GPU is used here; leave it out, or take a machine that has them")
    if int(value) > 1 and jobs_per_gpu() > 1:
        raise UserError("a job cannot both have several GPUs and share them; set gpus_per_job or jobs_per_gpu to 1")
    return int(value) if device_is_gpu else 0


def threads_each(cores: int, jobs: int) -> int:
    """Return the CPU threads of each of `jobs` that run at the same time on GPUs."""
    return max(1, min(MAX_THREADS_PER_JOB, cores // max(1, jobs)))


def claim(devices: list[str], per_gpu: int = 1, wait: bool = True, patience: float = math.inf) -> int:
    """Reserve a slot on one of `devices` until this process ends, however it ends.

    Args:
        devices: UUIDs, at least one.
        per_gpu: how many processes may share a GPU.
        wait: wait for a free slot; if false and all are reserved, share the first GPU.
        patience: maximum waiting time in seconds.

    Returns:
        The index in `devices` of the GPU to compute on; the same at every call of this process.

    Raises:
        UserError: no slot became free in time.
    """
    if mine := [index for index, device in enumerate(devices) if device in _reserved]:
        return mine[0]
    printed, start = False, time.monotonic()
    while True:
        for slot, index in product(range(per_gpu), range(len(devices))):  # a second job on a GPU when each has one
            if _lock(devices[index], slot):
                return index
        if not wait:
            return 0
        if not printed:
            print(_why_waiting(devices, per_gpu), file=sys.stderr, flush=True)
            printed = True
        if time.monotonic() - start > patience:
            raise UserError(
                f"no GPU was free for one of this run's processes in {patience:.0f} s; start as many as there are free "
                "GPUs (gpus_per_job, --nproc-per-node)"
            )
        time.sleep(POLL_SECONDS)


def _why_waiting(devices: list[str], per_gpu: int) -> str:
    what = "the GPU is" if len(devices) == 1 else f"all {len(devices)} GPUs are"
    jobs = len(devices) * per_gpu
    by = f"{jobs} other job{'s' if jobs > 1 else ''} (lslocks names them by {_path('*', '*')})"
    return f"waiting: {what} reserved by {by}; stop this and use --device cpu to compute without a GPU"


def _path(device: str, slot: int | str) -> Path:
    return Path(tempfile.gettempdir()) / f"ntkcl-{device.replace('/', '_')}-{slot}.lock"  # MIG names may have a slash


def _lock(device: str, slot: int) -> bool:
    """Lock the file of a slot unless another process has locked it; any user of this machine may."""
    path = _path(device, slot)
    try:
        file = os.open(path, os.O_CREAT | os.O_EXCL)
        os.fchmod(file, 0o644)  # whatever the umask: other people wait for it too
    except FileExistsError:
        file = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return False
    _reserved[device] = file
    return True
