"""A project folder, and a comparison in it."""

from pathlib import Path

import pytest

from ntkcl.reporting.study_comparison import StudyComparison
from tests.helpers.fake_results import write_analysis


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty project folder."""
    monkeypatch.chdir(tmp_path)
    Path("reports").mkdir()
    return tmp_path


@pytest.fixture
def content(here):
    """A comparison as JSON; the files that it names exist."""
    return write_analysis(here)


@pytest.fixture
def comparison(content):
    return StudyComparison(**content)
