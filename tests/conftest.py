"""Fixtures that all tests share."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from tests.helpers.http_server import FileServer
from tests.helpers.projects import REPOSITORY, git, new_project, sh, working_in

os.environ["OMP_NUM_THREADS"] = "1"  # read when torch is imported: on small arrays a second thread only waits

Once = Callable[[str, Callable[[Path], None]], Path]


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """A function that fills a folder once for all of pytest's processes; nobody changes the folder afterwards."""
    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root

    def make(name: str, fill: Callable[[Path], None]) -> Path:
        folder, done = root / name, root / f"{name}.done"
        with FileLock(root / f"{name}.lock"):
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of a test run that failed
                fill(folder)
                done.touch()
        return folder

    return make


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    """An empty project with the repository's `params/`, as the working directory."""
    # without recorded checksums: the files of the tests are others
    shutil.copytree(REPOSITORY / "params", tmp_path / "params", ignore=shutil.ignore_patterns("checksums.json"))
    with working_in(tmp_path):
        yield tmp_path


@pytest.fixture
def tiny_settings(tmp_path: Path) -> Iterator[Path]:
    """A project with the settings of the tiny study and nothing else, as the working directory."""
    yield from copied(REPOSITORY / "tests/tiny", tmp_path)


@pytest.fixture(scope="session")
def tiny_prepared(once: Once) -> Path:
    """The tiny project with its data and backbone; do not change it."""
    return once("tiny-prepared", prepare)


@pytest.fixture(scope="session")
def tiny_finished(once: Once, tiny_prepared: Path) -> Path:
    """The tiny project with all runs of its study; do not change it."""
    return once("tiny-finished", lambda folder: finish(tiny_prepared, folder))


@pytest.fixture(scope="session")
def pipeline_finished(once: Once) -> Path:
    """A folder with the tiny project after `dvc repro`, a clone of it, and their remote; do not change it."""
    return once("pipeline-finished", run_pipeline)


@pytest.fixture
def tiny(tiny_prepared: Path, tmp_path: Path) -> Iterator[Path]:
    """A project with the tiny study, data and backbone ready, as the working directory."""
    yield from copied(tiny_prepared, tmp_path)


@pytest.fixture
def finished(tiny_finished: Path, tmp_path: Path) -> Iterator[Path]:
    """A project with the tiny study and its finished runs, as the working directory."""
    yield from copied(tiny_finished, tmp_path)


def copied(source: Path, folder: Path) -> Iterator[Path]:
    """A copy of a project, as the working directory."""
    shutil.copytree(source, folder / "project")
    with working_in(folder / "project"):
        yield folder / "project"


def prepare(folder: Path) -> None:
    """Prepare the data of the tiny project and pre-train its backbone."""
    from ntkcl.backbones.pretraining import pretrain
    from ntkcl.data.prepared.prepare import prepare_dataset

    shutil.copytree(REPOSITORY / "tests/tiny", folder)
    with working_in(folder):
        prepare_dataset("digits")
        prepare_dataset("letters")
        pretrain("vit_tiny", "cpu")


def finish(prepared: Path, folder: Path) -> None:
    """Train and evaluate all runs of the tiny study."""
    import torch

    from ntkcl.runs import runs_of
    from ntkcl.settings.files import load_study
    from ntkcl.training.evaluate import evaluate
    from ntkcl.training.train import train_task

    shutil.copytree(prepared, folder)
    with working_in(folder):
        for run in runs_of(load_study("quickstart")):
            for task in run.tasks:
                train_task(run, task.index, torch.device("cpu"))
            evaluate(run, torch.device("cpu"))


def run_pipeline(folder: Path) -> None:
    """Run the whole pipeline, push its results, and pull them into a clone."""
    project = new_project(folder / "project")
    sh(project, "dvc", "repro")
    sh(project, "dvc", "remote", "add", "--default", "here", str(folder / "remote"))
    sh(project, "dvc", "push")
    git(project, "add", "--all")
    git(project, "commit", "--quiet", "--message", "results")
    git(folder, "clone", "--quiet", str(project), "clone")
    sh(folder / "clone", "dvc", "pull")


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FileServer]:
    """A server of the files that publishers have."""
    with FileServer(tmp_path_factory.mktemp("publisher")) as server:
        yield server
