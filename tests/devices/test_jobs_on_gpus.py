"""Jobs of the pipeline and the GPUs that they ask for."""

import itertools
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.helpers.projects import copy_pipeline

PROFILES = "workflow/profiles"


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
    profile = project / PROFILES / "slurm/config.yaml"
    profile.write_text(re.sub("groups:.*\n", "", profile.read_text()))  # a plan shows no job of a group by itself
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
