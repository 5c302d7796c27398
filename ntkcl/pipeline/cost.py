"""The cost of a study before it starts: images to compute, GPU-hours, disk, bytes to download."""

import csv
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ntkcl.errors import UserError
from ntkcl.fetching.fetch import downloads_folder
from ntkcl.registry import METHODS
from ntkcl.runs import Run, resolve, runs_of
from ntkcl.settings.digest import digest_of
from ntkcl.settings.files import load_backbone, load_dataset, load_study
from ntkcl.settings.models import File
from ntkcl.storage.files import read_json
from ntkcl.tasks import Task

THROUGHPUT = Path("runs") / "throughput.json"
MIN_TRAINED_PER_SECOND = 30  # images that any GPU of a cluster trains on, with a ViT-B/16
MIN_EVALUATED_PER_SECOND = 100
START_MINUTES = 20  # of a cluster's job, in addition to its computing


@dataclass(frozen=True)
class Work:
    """Work that remains.

    Args:
        runs: number of runs.
        done: number of runs that are finished with the current settings.
        jobs: number of tasks to train.
        trained: images to train on, counted in every epoch.
        evaluated: images to pass through the model without training: the training images of each task once, when it
            ends, and after each task the test images of all learned classes.
        hours: time on the device whose speed was measured; None if it is not known.
    """

    runs: int = 0
    done: int = 0
    jobs: int = 0
    trained: float = 0
    evaluated: float = 0
    hours: float | None = 0

    def __add__(self, other: "Work") -> "Work":
        hours = None if None in (self.hours, other.hours) else self.hours + other.hours
        sums = (getattr(self, name) + getattr(other, name) for name in ("runs", "done", "jobs", "trained", "evaluated"))
        return Work(*sums, hours)


@cache
def counts_of(name: str) -> tuple[int, int]:
    """Numbers of training and test images of a dataset: published, prepared, estimated in its settings, or 0."""
    counts, manifest = load_dataset(name).counts, Path("data") / name / "manifest.csv"
    if not manifest.exists() or (counts and counts.exact):
        return (counts.train, counts.test) if counts else (0, 0)
    with manifest.open(encoding="utf-8", newline="") as file:
        splits = [row["split"] for row in csv.DictReader(file)]
    return splits.count("train"), splits.count("test")


def training_images(run: Run, task: Task) -> tuple[float, float]:
    """Approximate numbers of images of `task`: to train on, and to evaluate when it ends."""
    training = run.training
    images = training.train_fraction * counts_of(run.dataset_name)[0] * task.size / run.dataset.classes
    trains = task.index == 0 or not METHODS.load(run.method.learner).trains_first_task_only
    return images * training.epochs_of(task) * trains, images


def evaluation_images(run: Run) -> float:
    """Approximate number of test images in the evaluation of all states of a run."""
    sizes = run.dataset.task_sizes
    shares = [sum(sizes[: index + 1]) / run.dataset.classes for index in range(len(sizes))]
    return counts_of(run.dataset_name)[1] * sum(shares)


def training_minutes(run: Run, task: int) -> int:
    """Minutes to request from a cluster for training a task: generous."""
    trained, evaluated = training_images(run, run.tasks[task])
    return START_MINUTES + math.ceil((trained / MIN_TRAINED_PER_SECOND + evaluated / MIN_EVALUATED_PER_SECOND) / 60)


def evaluation_minutes(run: Run) -> int:
    """Minutes to request from a cluster for evaluating a run: generous."""
    return START_MINUTES + math.ceil(evaluation_images(run) / MIN_EVALUATED_PER_SECOND / 60)


def compute_key(run: Run) -> str:
    """Digest of all settings that the speed of a run depends on."""
    training = run.training
    return digest_of(
        run.backbone.architecture, run.method.learner, run.settings, training.batch_size, training.precision
    )


def work_of(run: Run, speeds: dict[str, dict]) -> Work:
    """Work that remains for a run.

    Args:
        run: the run.
        speeds: images a second by `compute_key`, on one device (`measured`).
    """
    if _is_done(run):
        return Work(runs=1, done=1)
    missing = [task.index for task in run.tasks if not run.state_path(task.index).exists()]
    tasks = total(task_work(run, task, speeds) for task in missing)
    return Work(runs=1) + tasks + evaluation_work(run, speeds)


def task_work(run: Run, task: int, speeds: dict[str, dict]) -> Work:
    """Work of training a task."""
    return _work(run, 1, *training_images(run, run.tasks[task]), speeds)


def evaluation_work(run: Run, speeds: dict[str, dict]) -> Work:
    """Work of evaluating all states of a run."""
    return _work(run, 0, 0, evaluation_images(run), speeds)


def _work(run: Run, jobs: int, trained: float, evaluated: float, speeds: dict[str, dict]) -> Work:
    speed = speeds.get(compute_key(run))
    hours = (trained / speed["train"] + evaluated / speed["evaluate"]) / 3600 if speed and evaluated else None
    return Work(0, 0, jobs, trained, evaluated, hours)


def total(works: Iterable[Work]) -> Work:
    """Sum of `works`."""
    return sum(works, Work())


def measured(runs: list[Run]) -> tuple[str, dict[str, dict]]:
    """The device with the most measured speeds of those that `runs` need, and its speeds; empty if there is none."""
    if not THROUGHPUT.exists():
        return "", {}
    devices, needed = read_json(THROUGHPUT), {compute_key(run) for run in runs}
    name = max(sorted(devices), key=lambda device: len(needed & devices[device].keys()))
    return name, devices[name] if needed & devices[name].keys() else {}


def downloads(study_name: str) -> dict[str, tuple[int, int]]:
    """For each dataset and backbone of a study: approximate bytes to download, and number of files of unknown size."""
    sizes = {}
    for owner, files in _needed(study_name).items():
        missing = [file for name, file in files.items() if not (downloads_folder() / owner / name).exists()]
        sizes[owner] = sum(map(_bytes, missing)), sum(_bytes(file) == 0 for file in missing)
    return sizes


def prepared_bytes(study_name: str) -> int:
    """Approximate bytes of the datasets and backbones that are not prepared yet: as many as their files have."""
    return sum(_bytes(file) for files in _needed(study_name).values() for file in files.values())


def _needed(study_name: str) -> dict[str, dict[str, File]]:
    """Files of each dataset and backbone of a study that is not prepared yet."""
    study = load_study(study_name)
    needed = {name: load_dataset(name).files for name in study.datasets if not _is_prepared(name)}
    weights = {name: load_backbone(name).weights for name in study.backbones if not _is_fetched(name)}
    return needed | {name: origin.files for name, origin in weights.items() if origin}


def summary(study_name: str, jobs: Iterable[tuple[str, Any]]) -> str:
    """Describe the cost of the planned `jobs` of a study in one line, without computing anything.

    Args:
        study_name: name of the study.
        jobs: rule and wildcards of each job.
    """
    runs, jobs = runs_of(load_study(study_name)), list(jobs)
    device, speeds = measured(runs)
    work = total(_job_work(rule, wildcards, speeds) for rule, wildcards in jobs)
    prepared = {w.dataset for rule, w in jobs if rule == "prepare_data"}
    prepared |= {w.backbone for rule, w in jobs if rule == "fetch_backbone"}
    size = sum(size for owner, (size, _) in downloads(study_name).items() if owner in prepared)
    needed = {name: files for name, files in _needed(study_name).items() if name in prepared}
    disk = size + sum(_bytes(file) for files in needed.values() for file in files.values())
    parts = [f"study {study_name}: {len(runs)} runs, {sum(map(_is_done, runs))} done", f"now {work.jobs} training jobs"]
    parts += [f"{in_words(work.trained + work.evaluated)} images to compute"] if work.evaluated else []
    parts += [f"about {work.hours:.1f} hours on {device}"] if device and work.hours else []
    parts += [f"about {in_bytes(size)} to download"] if size else []
    parts += [f"about {in_bytes(disk)} of disk besides the runs"] if disk else []
    manual = [name for name in manual_downloads(study_name) if name in prepared]
    asks = [f"{' and '.join(manual)}: download the files manually, see `ntkcl data list`"] if manual else []
    return "\n".join([", ".join(parts) + f" (more: ntkcl plan {study_name})", *asks])


def manual_downloads(study_name: str) -> list[str]:
    """The datasets of a study with a file that you must download manually."""
    return [
        owner
        for owner, files in _needed(study_name).items()
        if any(not (file.urls or (downloads_folder() / owner / name).exists()) for name, file in files.items())
    ]


def _job_work(rule: str, wildcards: Any, speeds: dict[str, dict]) -> Work:
    if rule not in ("train_task", "evaluate_run"):
        return Work()
    run = resolve(wildcards.dataset, wildcards.backbone, wildcards.variant, int(wildcards.seed))
    return task_work(run, int(wildcards.task), speeds) if rule == "train_task" else evaluation_work(run, speeds)


def in_words(count: float) -> str:
    """Format a number."""
    return f"{count / 1e6:,.0f} million" if count >= 1e7 else f"{count:,.0f}"


def in_bytes(size: float) -> str:
    """Format a size."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def _bytes(file: File) -> int:
    return file.size or file.approx_bytes or 0


def _is_prepared(dataset: str) -> bool:
    return (Path("data") / dataset / "manifest.csv").exists()


def _is_fetched(backbone: str) -> bool:
    return (Path("backbones") / f"{backbone}.safetensors").exists()


def _is_done(run: Run) -> bool:
    try:
        return (run.folder / "metrics.json").exists() and read_json(run.folder / "metrics.json")["digest"] == run.digest
    except (UserError, KeyError):
        return False
