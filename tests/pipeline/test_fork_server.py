"""Jobs that fork from the fork server behave like ordinary processes."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from ntkcl.pipeline import fork_server

NTKCL = Path(sys.executable).with_name("ntkcl")
STARTER = "import os, time; from ntkcl.pipeline import fork_server; fork_server.start('ntkcl.commands.entry'); "
STARTER += "print(os.environ['NTKCL_FORK_SERVER'], flush=True); "
STARTER += "time.sleep(600)"


def eventually(condition) -> bool:
    deadline = time.monotonic() + 120  # it imports torch first
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return bool(condition())


def alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.fixture
def fork_server_process():
    """A process that has started a fork server: (the starter, the address)."""
    starter = subprocess.Popen([sys.executable, "-c", STARTER], stdout=subprocess.PIPE, text=True)
    address = starter.stdout.readline().strip()
    assert eventually(Path(address).exists)
    yield starter, address
    starter.kill()
    starter.wait()
    starter.stdout.close()


def ntkcl(address: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    environment = os.environ | {"NTKCL_FORK_SERVER": address}
    return subprocess.run([NTKCL, *arguments], cwd=cwd, env=environment, capture_output=True, text=True)


def test_output_exit_code_and_folder_are_those_of_an_ordinary_start(fork_server_process, tiny):
    _, address = fork_server_process
    run = ["digits", "vit_tiny", "ntk_cl", "0"]
    results = []
    for place in (address, "/nowhere"):
        done = ntkcl(place, "train", *run, "--task", "0", cwd=tiny)
        assert done.returncode == 0, done.stderr
        results.append(Path("runs/digits/vit_tiny/ntk_cl/seed0/task0/state.safetensors").read_bytes())
        failed = ntkcl(place, "train", *run, "--task", "9", cwd=tiny)
        assert (failed.returncode, failed.stdout) == (1, "")
        results.append(failed.stderr)
        assert ntkcl(place, "no-such-command", cwd=tiny).returncode == 2
    assert results[:2] == results[2:]


def test_a_killed_job_dies_with_its_work(fork_server_process, tiny):
    starter, address = fork_server_process
    server = children(starter.pid)[0]
    path = tiny / "params/backbones.yaml"
    path.write_text(path.read_text().replace("steps: 40", "steps: 1000000"))
    job = subprocess.Popen([NTKCL, "backbone", "vit_tiny"], env=os.environ | {"NTKCL_FORK_SERVER": address}, stderr=-3)
    assert eventually(lambda: children(server))
    fork = children(server)[0]
    job.kill()
    job.wait()
    assert eventually(lambda: not alive(fork))
    assert alive(server)


def test_a_job_that_is_told_to_stop_saves_where_it_is(fork_server_process, tiny):
    path = tiny / "params/methods/ntk_cl.yaml"
    path.write_text(path.read_text().replace("epochs: 2", "epochs: 10000"))
    command = [NTKCL, "train", "digits", "vit_tiny", "ntk_cl", "0", "--task", "0"]
    job = subprocess.Popen(
        command, env=os.environ | {"NTKCL_FORK_SERVER": fork_server_process[1]}, stdout=-1, stderr=-1, text=True
    )
    assert "epoch 1 of" in job.stdout.readline()
    job.send_signal(signal.SIGTERM)
    error = job.communicate(timeout=60)[1]
    assert (job.returncode, error.count("\n")) == (1, 1)
    assert "stopped by SIGTERM at task 0" in error
    assert (tiny / "runs/digits/vit_tiny/ntk_cl/seed0/task0/checkpoint.safetensors").exists()


def test_it_ends_with_the_one_who_started_it_however_that_ends(fork_server_process):
    starter, address = fork_server_process
    server = children(starter.pid)[0]
    starter.send_signal(signal.SIGKILL)
    starter.wait()
    assert eventually(lambda: not alive(server))
    assert not Path(address).parent.exists()


def test_a_server_that_ends_before_it_takes_a_job_leaves_it_to_the_client(tmp_path, monkeypatch):
    address = str(tmp_path / "socket")
    monkeypatch.setenv(fork_server.ADDRESS_VARIABLE, address)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen(1)
        threading.Timer(0.3, server.close).start()
        assert fork_server.run_in_fork_server() is None
    Path(address).unlink()
    assert fork_server.run_in_fork_server() is None


def test_a_long_folder_for_temporary_files_does_not_matter(tmp_path, monkeypatch):
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv(fork_server.ADDRESS_VARIABLE, "")
    fork_server.start("ntkcl.no_such_module")
    assert len(os.environ[fork_server.ADDRESS_VARIABLE]) <= 107
    fork_server._lifeline.communicate(timeout=60)
    Path(os.environ[fork_server.ADDRESS_VARIABLE]).parent.rmdir()
