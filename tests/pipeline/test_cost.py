"""What a study costs, known before it starts; and its parts as targets."""

import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
import yaml
from click.testing import CliRunner
from safetensors import safe_open

from ntkcl.commands.cli import main
from ntkcl.fetching.fetch import downloads_folder
from ntkcl.pipeline import cost, throughput
from ntkcl.runs import resolve, runs_of
from ntkcl.settings.files import load_backbone, load_dataset, load_study
from ntkcl.training.evaluate import evaluate
from ntkcl.training.train import train_task
from tests.helpers.http_server import FileServer
from tests.helpers.miniatures import MINIATURES
from tests.helpers.projects import copy_pipeline, jobs_in_plan, sh

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("dataset", "tasks", "lr", "batch_size", "epochs", "weight_decay", "info_nce_weight", "pretrained_part"),
    [
        ("cifar100", [10] * 10, 0.025, 16, 20, 5e-4, 0.03, False),
        ("imagenet_r", [20] * 10, 0.02, 16, 20, 5e-3, 0.2, False),
        ("imagenet_a", [20] * 10, 0.02, 16, 20, 5e-3, 0.2, False),
        ("domainnet", [23] * 15, 0.02, 96, 50, 5e-3, 0.2, False),
        ("oxford_pets", [7] + [5] * 6, 0.02, 96, 5, 5e-3, 0.2, True),
        ("eurosat", [2] * 5, 1e-4, 96, 5, 5e-3, 0.2, True),
        ("plantvillage", [3] * 5, 5e-3, 96, 5, 5e-3, 0.2, True),
        ("vtab", [10] * 5, 0.03, 96, 45, 5e-3, 0.2, True),
        ("kvasir", [2] * 4, 5e-3, 96, 5, 5e-3, 0.2, True),
    ],
)
def test_the_paper_study_has_the_published_settings(
    project, dataset, tasks, lr, batch_size, epochs, weight_decay, info_nce_weight, pretrained_part
):
    runs = [run for run in runs_of(load_study("paper")) if (run.dataset_name, run.variant) == (dataset, "ntk_cl")]
    assert len(runs) == 10
    for run in runs:
        assert run.dataset.task_sizes == tasks
        training = run.training
        assert (training.lr, training.batch_size, training.epochs) == (lr, batch_size, epochs)
        assert (training.weight_decay, training.optimizer, training.momentum) == (weight_decay, "sgd", 0.9)
        assert (training.first_lr, training.first_epochs, training.schedule) == (None, None, "cosine")
        settings = run.settings
        assert (settings.info_nce_weight, settings.pretrained_part) == (info_nce_weight, pretrained_part)
        assert run.preprocessing.mean == (0,)


@pytest.fixture
def finished(tiny):
    """The tiny project with its run of NTK-CL finished."""
    run = resolve("digits", "vit_tiny", "ntk_cl", 0)
    cost.counts_of.cache_clear()
    for task in run.tasks:
        train_task(run, task.index, CPU)
    evaluate(run, CPU)
    return run


def jobs_of(study: str) -> list[tuple[str, SimpleNamespace]]:
    """The jobs that Snakemake plans where nothing is there."""
    jobs, runs = [], runs_of(load_study(study))
    for run in runs:
        names = dict(dataset=run.dataset_name, backbone=run.backbone_name, variant=run.variant, seed=str(run.seed))
        jobs += [("train_task", SimpleNamespace(**names, task=str(task.index))) for task in run.tasks]
        jobs += [("evaluate_run", SimpleNamespace(**names)), ("prepare_data", SimpleNamespace(**names))]
        jobs += [("fetch_backbone", SimpleNamespace(**names))]
    return jobs


def test_images_are_those_that_are_computed(finished):
    run, batch_size = finished, finished.training.batch_size
    trained = 0
    for task in run.tasks:
        steps = pd.read_csv(run.state_path(task.index).with_name("losses.csv"))
        trained += len(steps) * batch_size
        assert steps.epoch.max() == run.training.epochs
    predicted = len(pd.read_csv(run.folder / "predictions.csv.gz"))
    (run.folder / "metrics.json").unlink()
    for task in run.tasks:
        run.state_path(task.index).unlink()
    work = cost.work_of(run, {})
    assert (work.runs, work.done, work.jobs, work.hours) == (1, 0, 2, None)
    assert trained - batch_size * len(run.tasks) * run.training.epochs < work.trained <= trained
    train, _ = cost.counts_of("digits")
    assert work.trained == pytest.approx(train * run.training.epochs)
    assert cost.evaluation_images(run) == pytest.approx(predicted, rel=0.03)  # classes differ a little in size
    assert work.evaluated == pytest.approx(train + cost.evaluation_images(run))


def test_tasks_that_train_nothing_have_no_training_images(project):
    run = resolve("cifar100", "vit_b16_in21k", "ranpac", 0)
    trained = [cost.training_images(run, task)[0] for task in run.tasks]
    assert trained == [20 * 5000, *[0] * 9]


def test_what_is_done_costs_nothing_until_a_setting_changes(finished):
    run = finished
    assert cost.work_of(run, {}) == cost.Work(runs=1, done=1)
    other = resolve("digits", "vit_tiny", "ntk_cl", 1)
    other.folder.parent.mkdir(exist_ok=True)
    shutil.copytree(run.folder, other.folder)  # as if made with other settings: the digest is another
    work = cost.work_of(other, {})
    assert (work.done, work.jobs) == (0, 0)
    assert work.evaluated == pytest.approx(cost.evaluation_images(other))
    shutil.rmtree(other.state_path(1).parent)
    assert cost.work_of(other, {}).jobs == 1


def test_the_size_of_states_is_that_of_the_files(finished):
    size = 0
    for task in finished.tasks:
        with safe_open(finished.state_path(task.index), "pt") as file:
            tensors = [file.get_tensor(name) for name in file.keys() if name.startswith("learner/")]  # noqa: SIM118
        size += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    assert throughput.state_bytes(finished) == size > 0


def test_hours_come_from_a_measurement(tiny, monkeypatch):
    monkeypatch.setattr(throughput, "MEASURING_SECONDS", 0.02)
    cost.counts_of.cache_clear()
    before = CliRunner().invoke(main, ["plan", "quickstart"], catch_exceptions=False).output
    assert "ntkcl plan quickstart --measure" in before
    measured = CliRunner().invoke(main, ["plan", "quickstart", "--measure", "--device", "cpu"], catch_exceptions=False)
    assert measured.output.count("images/s in training") == 3
    runs = runs_of(load_study("quickstart"))
    device, speeds = cost.measured(runs)
    assert device.startswith("CPU")
    ntk_cl = runs[1]
    speed = speeds[cost.compute_key(ntk_cl)]
    work = cost.work_of(ntk_cl, speeds)
    assert work.hours == pytest.approx((work.trained / speed["train"] + work.evaluated / speed["evaluate"]) / 3600)
    assert cost.total(cost.work_of(run, speeds) for run in runs).hours > work.hours
    assert f"hours: on {device}" in measured.output.replace("\n", " ")
    assert f"hours on {device}" in cost.summary("quickstart", jobs_of("quickstart"))
    # another batch size is another speed: not known
    assert cost.compute_key(ntk_cl) != cost.compute_key(runs[0])
    assert cost.total([work, cost.Work(runs=1, hours=None)]).hours is None


def test_downloads_are_what_is_not_there(project, monkeypatch, tmp_path):
    before = cost.downloads("paper")
    assert before["imagenet_r"][0] > 2_191_079_936 > before["imagenet_a"][0] > 0
    assert before["vit_b16_in21k"][0] > 300e6
    monkeypatch.setenv("NTKCL_DOWNLOADS", str(tmp_path / "elsewhere"))
    path = downloads_folder() / "imagenet_r" / "imagenet-r.tar"
    path.parent.mkdir(parents=True)
    path.touch()
    after = cost.downloads("paper")
    assert before["imagenet_r"][0] - after["imagenet_r"][0] == 2_191_079_936
    (project / "data/imagenet_r").mkdir(parents=True)
    (project / "data/imagenet_r/manifest.csv").touch()
    assert "imagenet_r" not in cost.downloads("paper")
    assert cost.downloads("quickstart") == {"digits": (0, 0), "glyphs": (0, 0)}


def test_the_plan_names_every_dataset_and_the_unknown(project):
    output = CliRunner().invoke(main, ["plan", "paper"], catch_exceptions=False).output
    assert all(name in output for name in load_study("paper").datasets)
    assert all(name in output for name in load_study("paper").variants)
    assert "0 of 1260" in output
    assert "9,940" in output
    assert "?" in CliRunner().invoke(main, ["plan", "quickstart"], catch_exceptions=False).output
    everything = cost.summary("paper", jobs_of("paper"))
    assert everything.startswith("study paper: 1260 runs, 0 done, now 9940 training jobs, 1,497 million images to")
    assert "plantvillage and vtab: download the files manually" in everything
    part = cost.summary("paper", [job for job in jobs_of("paper") if job[1].dataset == "cifar100"])
    assert "now 1400 training jobs, 152 million images to compute, about 925 MB to download" in part
    assert "manually" not in part


def test_images_are_counted_where_their_number_is_a_guess(project):
    for name, exact in (("kvasir", False), ("cifar100", True)):
        counts = load_dataset(name).counts
        assert counts.exact == exact
        cost.counts_of.cache_clear()
        assert cost.counts_of(name) == (counts.train, counts.test)
        cost.counts_of.cache_clear()
        path = project / "data" / name / "manifest.csv"
        path.parent.mkdir(parents=True)
        path.write_text("image,class,split\na.jpg,a,train\nb.jpg,a,test\nc.jpg,a,train\n")
        assert cost.counts_of(name) == ((counts.train, counts.test) if exact else (2, 1))
    cost.counts_of.cache_clear()


def test_the_summary_says_what_goes_to_the_disk(project):
    """Downloads, and about as many bytes prepared from them; then only the prepared bytes; then nothing."""
    sizes = cost.downloads("paper")
    assert cost.prepared_bytes("paper") == sum(size for size, _ in sizes.values())
    twice = cost.in_bytes(2 * cost.prepared_bytes("paper"))
    assert f"to download, about {twice} of disk" in cost.summary("paper", jobs_of("paper"))
    for owner in sizes:
        dataset = owner in load_study("paper").datasets
        files = load_dataset(owner).files if dataset else load_backbone(owner).weights.files
        for name in files:
            path = downloads_folder() / owner / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    made = cost.summary("paper", jobs_of("paper"))
    assert f"compute, about {cost.in_bytes(cost.prepared_bytes('paper'))} of disk" in made
    assert "manually" not in made
    assert "disk" not in cost.summary("quickstart", jobs_of("quickstart"))


def test_longer_tasks_get_more_of_a_cluster_s_time(project):
    short, long = (resolve(name, "vit_b16_in21k", "ntk_cl", 0) for name in ("eurosat", "domainnet"))
    assert cost.START_MINUTES < cost.training_minutes(short, 0) < 60 < cost.training_minutes(long, 0) < 24 * 60
    assert cost.START_MINUTES < cost.evaluation_minutes(short) < cost.evaluation_minutes(long) < 24 * 60


def planned(*arguments: str) -> dict[str, int]:
    """The number of jobs of each rule that Snakemake plans."""
    return jobs_in_plan(sh(Path(), "snakemake", "--dry-run", *arguments))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "backbones", "datasets", "tasks", "runs"),
    [
        ("table_2", 1, 3, 30 * 2, 6),
        ("dataset_kvasir", 2, 1, 4 * 4, 4),
        ("seed_1", 2, 9, 142, 18),
        ("backbone_vit_b16_in1k", 1, 9, 71 * 2, 18),
        ("method_ntk_cl", 2, 9, 142 * 2, 36),
        ("runs/eurosat/vit_b16_in1k/ntk_cl/seed1/metrics.json", 1, 1, 5, 1),
    ],
)
def test_any_part_of_the_study_is_a_target(project, target, backbones, datasets, tasks, runs):
    copy_pipeline(project)
    path = project / "params/studies/paper.yaml"  # with NTK-CL and two seeds only, so that planning is fast
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"variants": ["ntk_cl"], "seeds": [0, 1]}))
    plan_of_target = planned("--config", "study=paper", "--", target)
    expected = {"fetch_backbone": backbones, "fetch_data": datasets, "prepare_data": datasets}
    expected |= {"train_task": tasks, "evaluate_run": runs}
    assert {rule: count for rule, count in plan_of_target.items() if rule != target} == expected


@pytest.mark.slow
def test_a_dataset_is_fetched_once_and_another_address_reruns_nothing(project, tmp_path_factory):
    copy_pipeline(project)
    snakemake, target = Path(sys.executable).with_name("snakemake"), "data/eurosat/manifest.csv"
    with FileServer(tmp_path_factory.mktemp("publisher")) as server:
        miniature = MINIATURES["eurosat"]()
        for name, content in miniature.files.items():
            (server.folder / name).write_bytes(content)
        miniature.adapt("eurosat", server.url)
        subprocess.run([snakemake, "--cores", "2", target], check=True)
    path = project / "params/datasets/eurosat.yaml"
    path.write_text(path.read_text().replace("127.0.0.1", "localhost"))
    assert planned(target) == {}
    (project / "data/eurosat/manifest.csv").unlink()
    assert planned(target) == {"prepare_data": 1}
