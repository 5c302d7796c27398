"""A driver of GPUs: a script replaces its nvidia-smi."""

import os
import sys
from pathlib import Path

import pytest


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """A function that sets the GPUs which nvidia-smi lists, for this process and those that it starts."""
    folder = tmp_path / "driver"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # with the locks of all processes

    def lists(*uuids: str, code: int = 0) -> None:
        script = folder / "nvidia-smi"
        script.write_text("#!/bin/sh\n" + "".join(f"echo {uuid}\n" for uuid in uuids) + f"exit {code}\n")
        script.chmod(0o755)

    return lists
