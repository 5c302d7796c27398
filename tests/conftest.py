"""Fixtures that all tests share."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ntkcl import runs
from ntkcl.data.sources.common import options
from ntkcl.settings import files
from tests.helpers.http_server import FileServer

REPOSITORY = Path(__file__).parents[1]


def clear_settings() -> None:
    """Forget the settings that were read: they are read once per process, and tests change the files."""
    for module in (files, options, runs):
        for function in vars(module).values():
            if hasattr(function, "cache_clear"):
                function.cache_clear()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """An empty project with the repository's `params/`, as the working directory."""
    # without the checksums that a person has recorded: the files of the tests are others
    shutil.copytree(REPOSITORY / "params", tmp_path / "params", ignore=shutil.ignore_patterns("checksums.json"))
    monkeypatch.chdir(tmp_path)
    clear_settings()
    yield tmp_path
    clear_settings()


@pytest.fixture(scope="session")
def tiny_prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny project with its data and backbone; do not change it."""
    folder = tmp_path_factory.mktemp("tiny") / "project"
    shutil.copytree(REPOSITORY / "tests/tiny", folder)
    command = (
        "from ntkcl.backbones.pretraining import pretrain; from ntkcl.data.prepared.prepare import prepare_dataset;"
    )
    command += "prepare_dataset('digits'); prepare_dataset('letters'); import torch; torch.set_num_threads(1);"
    command += "pretrain('vit_tiny', 'cpu')"
    subprocess.run([sys.executable, "-c", command], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture
def tiny(tiny_prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A project with the tiny study, data and backbone ready, as the working directory."""
    folder = tmp_path / "project"
    shutil.copytree(tiny_prepared, folder)
    monkeypatch.chdir(folder)
    clear_settings()
    yield folder
    clear_settings()


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory):
    """A server of what publishers have."""
    with FileServer(tmp_path_factory.mktemp("publisher")) as server:
        yield server
