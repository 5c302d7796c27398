"""What is said before jobs are submitted to clusters that are not here: `sinfo` and `squeue` print what they would."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from ntkcl.errors import UserError
from ntkcl.pipeline import slurm


@pytest.fixture
def prints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Puts a command into PATH that prints a text and has an exit code."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(slurm, "_growth", dict(slurm._growth))

    def command(name: str, text: str, code: int = 0) -> None:
        (tmp_path / "text").write_text(text)
        (tmp_path / name).write_text(f"#!/bin/sh\ncat '{tmp_path}/text'\nexit {code}\n")
        (tmp_path / name).chmod(0o755)

    return command


def job(rule: str = "train_task", threads: int = 8, task: str = "0", **resources: object) -> SimpleNamespace:
    return SimpleNamespace(
        is_local=False,
        threads=threads,
        resources=resources,
        rule=SimpleNamespace(name=rule),
        wildcards={"seed": "0", "task": task},
        group="run",
    )


TWO_PARTITIONS = "cpu*|16|64000|(null)|1:00:00\ngpu|32|256000|gpu:a100:4(S:0-1)|3-00:00:00\n"


def test_jobs_without_a_partition_go_to_the_default_one(prints):
    prints("sinfo", TWO_PARTITIONS)
    with pytest.raises(UserError, match="no node of the default partition has them"):
        slurm.check_that_jobs_fit([job(gpu=1, mem_mb=8000, runtime=30)])
    slurm.check_that_jobs_fit([job(gpu=1, mem_mb=8000, runtime=30, slurm_partition="gpu")])


def test_more_gpus_than_a_node_has(prints):
    prints("sinfo", TWO_PARTITIONS)
    slurm.check_that_jobs_fit([job(gpu=4, slurm_partition="gpu")])
    with pytest.raises(UserError, match=r"8 GPUs \(at most 4\).*gpus_per_job=4"):
        slurm.check_that_jobs_fit([job(gpu=8, slurm_partition="gpu")])


def test_later_tries_ask_for_no_more_than_there_is(prints):
    prints("sinfo", TWO_PARTITIONS)
    tasks = [job(task=str(task), mem_mb=8000, runtime=20) for task in range(2)]
    slurm.check_that_jobs_fit(tasks)
    assert [slurm.growth("mem_mb", attempt) for attempt in (1, 4, 10)] == [1, 4, 8]
    assert [slurm.growth("runtime", attempt) for attempt in (1, 2)] == [1, 1.5]  # 40 of 60 minutes


@pytest.mark.parametrize("evaluation", [10, 58, 100])
def test_what_to_type_about_the_time_limit_helps(prints, evaluation):
    prints("sinfo", TWO_PARTITIONS)
    minutes = {"train_task": 20, "evaluate_run": evaluation}

    def jobs() -> list[SimpleNamespace]:
        tasks = [job(task=str(task), runtime=minutes["train_task"]) for task in range(5)]
        return [*tasks, job("evaluate_run", runtime=minutes["evaluate_run"])]

    with pytest.raises(UserError, match="in one allocation") as error:
        slurm.check_that_jobs_fit(jobs())
    for setting in str(error.value).partition("--set-resources ")[2].split():
        rule, _, value = setting.partition(":runtime=")
        minutes[rule] = int(value)
    slurm.check_that_jobs_fit(jobs())


def test_jobs_without_a_group_have_an_allocation_each(prints):
    prints("sinfo", TWO_PARTITIONS)
    jobs = [job("prepare_data", runtime=40) for _ in range(7)]
    for each in jobs:
        each.group = None
    slurm.check_that_jobs_fit(jobs)


RUN_ID = "01234567-89ab-cdef-0123-456789abcdef"


def test_a_queue_that_cannot_be_read_is_not_an_empty_one(prints, tmp_path):
    prints("squeue", f"7\t{RUN_ID}\t{tmp_path}\n8\todd|name\t{tmp_path}\nnonsense\n")
    assert slurm.earlier_jobs(tmp_path) == ["7"]
    prints("squeue", "", code=1)
    assert slurm.earlier_jobs(tmp_path) is None


def test_it_waits_for_a_queue_that_can_be_read(prints, tmp_path, monkeypatch, capsys):
    prints("squeue", "", code=1)
    monkeypatch.setattr(slurm.time, "sleep", lambda _: prints("squeue", ""))
    slurm.wait_for_earlier_jobs(tmp_path)
    assert capsys.readouterr().err.startswith("waiting for Slurm: squeue fails")


def test_without_slurm_there_is_nothing_to_wait_for(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert slurm.earlier_jobs(tmp_path) == []
