"""Curves on W&B while a run trains: one run there over all tasks, and a server that goes away stops nothing."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ntkcl.runs import Run, resolve
from ntkcl.training.evaluate import evaluate
from ntkcl.training.train import train_task
from tests.helpers.learners import CPU
from tests.helpers.wandb_server import WandbServer


@pytest.fixture
def server() -> Iterator[WandbServer]:
    server = WandbServer()
    yield server
    server.go_away()


def environment(server: WandbServer, home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB", "NETRC"))}
    return kept | {"HOME": str(home)} | server.environment


LIVE = [sys.executable, "-m", "ntkcl", "log-wandb", "runs", "--live", "--every", "0.5"]


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def steps(server: WandbServer, task: int) -> list[int]:
    """Steps of the points of a task, in the only run that the server knows."""
    return [row["step"] for rows in server.histories.values() for row in rows if row.get("task") == task]


@pytest.fixture
def run(tiny: Path) -> Run:
    return resolve("digits", "vit_tiny", "ntk_cl", 0)


def test_curves_grow_through_the_tasks_and_the_servers_absence(server, run, tiny_finished, tmp_path):
    log = tmp_path / "live.log"
    with log.open("w") as file:
        live = subprocess.Popen(LIVE, env=environment(server, tmp_path), stdout=file, stderr=subprocess.STDOUT)
    try:
        wait_for(log.read_text)
        train_task(run, 0, CPU)
        wait_for(lambda: steps(server, 0))
        server.go_away()
        train_task(run, 1, CPU)
        wait_for(lambda: "warning" in log.read_text())
        server.come_back()
        wait_for(lambda: steps(server, 1))
    finally:
        live.terminate()
        live.wait()
    (identity,) = server.histories
    assert server.names == {identity: run.name}
    every_step = steps(server, 0) + steps(server, 1)
    assert every_step == sorted(set(every_step))
    (_, warning) = log.read_text().splitlines()
    assert warning.startswith("warning: curves are not uploaded to W&B (") and "training goes on" in warning
    for task in (0, 1):  # training knows nothing of it
        assert run.state_path(task).read_bytes() == (tiny_finished / run.state_path(task)).read_bytes()

    evaluate(run, CPU)
    command = [sys.executable, "-m", "ntkcl", "log-wandb", "runs"]
    subprocess.run(command, env=environment(server, tmp_path), check=True)
    key = server.environment["WANDB_API_KEY"].encode()
    assert not [path for path in Path().rglob("*") if path.is_file() and key in path.read_bytes()]
    (rows,) = server.histories.values()  # the results are the same run
    assert [row["tasks_learned"] for row in rows if "tasks_learned" in row] == [1, 2]
    assert {row["step"] for row in rows if "images_per_second" in row} == set(every_step)


def test_a_finished_run_is_left_alone_and_it_ends_with_its_parent(server, finished, tmp_path):
    program = f"""import os, subprocess
print(subprocess.Popen([*{LIVE!r}, "--parent", str(os.getpid())]).pid, flush=True)
input()"""
    parent = [sys.executable, "-c", program]
    variables = environment(server, tmp_path)
    with subprocess.Popen(parent, env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        live = process.stdout.readline().strip()
        assert "uploading curves" in process.stdout.readline()
        for path in finished.glob("runs/**/task0"):
            (path / "progress.csv").write_text(
                "time,step,epoch,lr,images_per_second,total\n2026-01-01T00:00:00+00:00,1,1,0.1,9,2.0\n"
            )
        time.sleep(4)
        process.communicate("\n")
    wait_for(lambda: not Path(f"/proc/{live}").exists())
    assert server.histories == {}
