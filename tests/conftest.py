"""Fixtures that all tests share."""

import shutil
from pathlib import Path

import pytest

from ntkcl import config

REPOSITORY = Path(__file__).parents[1]


def clear_settings() -> None:
    """Forget the settings that were read: they are read once per process, and tests change the files."""
    for function in vars(config).values():
        if hasattr(function, "cache_clear"):
            function.cache_clear()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """An empty project with the repository's `params/`, as the working directory."""
    shutil.copytree(REPOSITORY / "params", tmp_path / "params")
    monkeypatch.chdir(tmp_path)
    clear_settings()
    yield tmp_path
    clear_settings()
