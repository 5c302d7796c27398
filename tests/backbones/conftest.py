"""A small project to pre-train in."""

from pathlib import Path

import pytest

from ntkcl.data.prepared.prepare import prepare_dataset
from tests.helpers.nano_backbone import write_backbone


@pytest.fixture
def small(project: Path) -> Path:
    """A project with a small dataset and the settings of a very small backbone."""
    text = (
        "{label: Small, source: digits, options: {size: 16}, classes: 10, first_task_classes: 2, classes_per_task: 2}"
    )
    Path("params/datasets/small.yaml").write_text(text, encoding="utf-8")
    write_backbone()
    prepare_dataset("small")
    return project
