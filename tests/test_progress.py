"""Progress: a bar on a terminal, few lines elsewhere."""

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from ntkcl import progress


@pytest.fixture
def console(monkeypatch):
    """A console without a terminal, in a process whose clock goes on by a second with each report."""
    seconds = iter(range(100_000))
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    return Console(file=io.StringIO(), width=200)


def test_lines_come_after_ten_seconds_and_then_less_and_less_often(console):
    with progress.shown("training", 10_000, "images", console) as report:
        for done in range(1, 10_001):
            report(done, f"loss {done}")
    lines = console.file.getvalue().splitlines()
    assert lines[:2] == [
        "training: 10 of 10,000 images, loss 10, about 3.1 h left",
        "training: 20 of 10,000 images, loss 20, about 2.9 h left",
    ]
    assert len(lines) < 100
    assert lines[-1].endswith("s left") or lines[-1].endswith("min left")


def test_a_download_that_resumes_estimates_from_what_it_gets(console):
    with progress.shown("file", None, console=console, in_bytes=True) as report:
        for done in range(500_000_000, 600_000_000, 1_000_000):
            report(done, total=1_000_000_000)
    assert console.file.getvalue().startswith("file: 509.0 MB of 1.0 GB, about 9 min left\n")


def test_a_short_task_prints_nothing(console):
    assert list(progress.tracked("abc", "reading", 3, "letters")) == ["a", "b", "c"]
    with progress.shown("reading", 3, "letters", console) as report:
        report(3)
    assert console.file.getvalue() == ""


def test_a_terminal_gets_a_bar_that_disappears():
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with progress.shown("training", 10, "images", console) as report:
        report(5, "loss 2")
    text = console.file.getvalue()
    assert "━" in text and "5/10" in text and "images" in text and "training, loss 2" in text
    assert "\x1b[2K" in text  # erased
