"""A server for the tests of downloads."""

from pathlib import Path

import pytest

from ntkcl.fetching import transfer
from tests.helpers.downloads import CONTENT
from tests.helpers.http_server import FileServer


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Serves `a.bin` and its mirror `b.bin` to an empty project, which is the working directory."""
    for folder in ("project/params", "served"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("a.bin", "b.bin"):
        (tmp_path / "served" / name).write_bytes(CONTENT)
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setattr(transfer, "FIRST_WAIT_SECONDS", 0.001)
    monkeypatch.delenv("NTKCL_DOWNLOADS", raising=False)
    with FileServer(tmp_path / "served") as server:
        yield server
