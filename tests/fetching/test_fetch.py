"""Downloads are verified, recorded at first use, and the message says what to do manually."""

import hashlib
import io
import json
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from ntkcl import progress
from ntkcl.errors import UserError
from ntkcl.fetching import transfer
from ntkcl.fetching.fetch import confirm, fetch, status
from ntkcl.settings.models import File
from tests.helpers.downloads import CONTENT, PART, PLACE, RECORDS, SHA256, fetched, refusal
from tests.helpers.http_server import Behaviour, FileServer

FETCH = "import sys, json; from ntkcl.fetching.fetch import fetch; from ntkcl.settings.models import File;"
FETCH += "fetch('set', {'a.bin': File(**json.loads(sys.argv[1]))})"


def in_another_process(file: File) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", FETCH, file.model_dump_json()], stderr=subprocess.PIPE, text=True)


def wait_for_bytes(process: subprocess.Popen) -> None:
    while transfer.bytes_in(PART) < 200_000:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)


def test_a_file_lies_where_the_environment_says(server: FileServer, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("NTKCL_DOWNLOADS", str(tmp_path / "elsewhere"))
    assert fetched(File(urls=[server.url("a.bin")], sha256=SHA256)) == CONTENT
    assert (tmp_path / "elsewhere/set/a.bin").read_bytes() == CONTENT
    assert not Path("downloads").exists()
    assert not RECORDS.exists()  # what is published needs no record


def test_a_file_put_there_by_hand_needs_no_network(server: FileServer):
    PLACE.parent.mkdir(parents=True)
    PLACE.write_bytes(CONTENT)
    assert fetched(File(urls=[server.url("a.bin")])) == CONTENT
    assert fetched(File(manual="a DVD")) == CONTENT
    assert not server.requests
    assert not RECORDS.exists()  # it may be the wrong one: it is recorded when it has proved to be of use
    confirm("set", {"a.bin": File(manual="a DVD")})
    assert json.loads(RECORDS.read_text()) == {"set/a.bin": {"sha256": SHA256, "size": len(CONTENT)}}


@pytest.mark.parametrize(
    "checksum",
    [
        {"sha256": hashlib.sha256(b"hello\n").hexdigest()},
        {"md5": "b1946ac92492d2347c6235b4d2611184"},
        {"git_blob": "ce013625030ba8dba906f756967f9e9ca394464a"},  # git hash-object
        {"size": 6},
    ],
)
def test_every_checksum_is_enforced(server: FileServer, checksum: dict):
    file = File(urls=[server.url("a.bin")], **checksum)
    PLACE.parent.mkdir(parents=True)
    PLACE.write_bytes(b"hello\n")
    assert fetched(file) == b"hello\n"
    RECORDS.unlink(missing_ok=True)

    PLACE.write_bytes(b"hello!\n")
    (name,) = checksum
    text = refusal(file)
    assert text.startswith(f"{PLACE} does not have the expected content (its {name} is ")
    assert text.endswith("delete it to download it again")
    assert PLACE.read_bytes() == b"hello!\n"  # it is the user's

    PLACE.unlink()
    assert f"its {name} is" in refusal(file)  # what the server has does not fit either
    assert not PLACE.exists()
    assert not RECORDS.exists()


@pytest.mark.parametrize("change", [b"other" + CONTENT[5:], CONTENT + b"more"])
def test_a_file_without_checksum_is_recorded_once_and_enforced_from_then_on(server: FileServer, change: bytes):
    file = File(urls=[server.url("a.bin")])
    fetched(file)
    record = {"sha256": SHA256, "size": len(CONTENT), "url": server.url("a.bin")}
    assert json.loads(RECORDS.read_text()) == {"set/a.bin": record}

    (server.folder / "a.bin").write_bytes(change)
    assert fetched(file) == CONTENT
    PLACE.unlink()
    text = refusal(file)
    assert "params/checksums.json has" in text
    assert "if the publisher changed it on purpose, remove its entry" in text
    RECORDS.unlink()
    assert fetched(file) == change
    fetch("set", {"0.bin": File(urls=[server.url("b.bin")])})
    assert list(json.loads(RECORDS.read_text())) == ["set/0.bin", "set/a.bin"]


def test_a_recorded_revision_is_fetched_again_although_main_has_moved(server: FileServer):
    for revision, content in {"main": CONTENT, "c0ffee": CONTENT}.items():
        (server.folder / revision).mkdir()
        (server.folder / revision / "a.bin").write_bytes(content)
    commit = {"X-Repo-Commit": "c0ffee"}  # in the answer that redirects, as on the Hugging Face Hub
    server.behaviours["main/a.bin"] = Behaviour(redirect=server.url("a.bin"), headers=commit)
    file = File(urls=[server.url("") + "{revision}/a.bin"])
    fetched(file)
    (server.folder / "a.bin").write_bytes(b"moved")
    PLACE.unlink()
    assert fetched(file) == CONTENT
    assert [request.name for request in server.requests] == ["main/a.bin", "a.bin", "c0ffee/a.bin"]


def test_what_a_person_must_fetch_comes_first_and_says_all_that_is_needed(server: FileServer):
    manual = File(manual="register at example.org, then download the test set.", sha256=SHA256)
    with pytest.raises(UserError) as error:
        fetch("set", {"b.bin": File(urls=[server.url("b.bin")]), "a.bin": manual})
    assert str(error.value) == (
        "set/a.bin must be downloaded manually: register at example.org, then download the test set; "
        f"put it at downloads/set/a.bin (its sha256 must be {SHA256})"
    )
    assert not server.requests
    assert "recorded at first use" in refusal(File(manual="a DVD"))


def test_when_all_addresses_fail_each_says_why_and_the_place_is_named(server: FileServer):
    server.behaviours["a.bin"] = Behaviour(status=503)
    urls = [server.url("a.bin"), server.url("missing"), "http://127.0.0.1:1/a.bin", "nonsense"]
    text = refusal(File(urls=urls, manual="a DVD"))
    for url, reason in zip(urls, ["HTTP 503", "HTTP 404", "Connection refused", "Invalid URL"], strict=True):
        assert f"{url}: {reason}" in text
    assert "manually: a DVD; put it at downloads/set/a.bin (its sha256 is recorded at first use)" in text


def test_a_full_disk_is_noticed_before_anything_is_fetched(server: FileServer, monkeypatch):
    monkeypatch.setattr("ntkcl.fetching.fetch.shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    for size in ({"size": 2000}, {"approx_bytes": 2000}):
        text = refusal(File(urls=[server.url("a.bin")], **size))
        assert text.startswith("set/a.bin needs 2.0 kB, but downloads has only 1.0 kB left")
    assert not server.requests

    PART.parent.mkdir(parents=True)
    PART.write_bytes(CONTENT[:-500])  # of a part only the rest is needed
    assert fetched(File(urls=[server.url("a.bin")], size=len(CONTENT), sha256=SHA256)) == CONTENT


def test_a_disk_that_fills_up_is_named_and_what_came_stays(server: FileServer):
    file = File(urls=[server.url("a.bin")])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, before[1]))
        assert refusal(file).startswith("cannot write downloads/set/a.bin.part: File too large; free space")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert fetched(file) == CONTENT
    assert server.ranges_asked("a.bin") == [None, "bytes=500000-"]


def test_names_cannot_lead_elsewhere(server: FileServer):
    for owner, name in [("..", "a.bin"), ("set", "../a.bin"), ("set", "/etc/a.bin"), ("", "a.bin")]:
        with pytest.raises(UserError, match="cannot name a download"):
            fetch(owner, {name: File(urls=[server.url("a.bin")])})


def test_status_says_what_is_there(server: FileServer):
    urls = [server.url("a.bin")]
    fetched(File(urls=urls))
    PLACE.with_name("b.bin.part").write_bytes(b"12345")
    files = {"a.bin": File(urls=urls), "b.bin": File(urls=urls), "c.bin": File(urls=urls), "d.bin": File(manual="x")}
    expected = {"a.bin": "present (1.0 MB)", "b.bin": "partial (5 bytes)", "c.bin": "missing", "d.bin": "manual"}
    assert status("set", files) == expected


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_is_a_bar_on_a_terminal_and_lines_elsewhere(server: FileServer, terminal: bool, monkeypatch):
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    console = Console(file=io.StringIO(), force_terminal=terminal, width=100)
    fetch("set", {"a.bin": File(urls=[server.url("a.bin")])}, console)
    text = console.file.getvalue()
    if terminal:
        assert "━" in text
    else:
        assert re.match(r"set/a.bin: .*B of 1.0 MB", text)


def test_two_processes_fetch_a_file_once(server: FileServer):
    file = File(urls=[server.url("a.bin")])
    server.behaviours["a.bin"] = Behaviour(stall_after=300_000)
    first = in_another_process(file)
    wait_for_bytes(first)
    second = in_another_process(file)
    assert "waiting for another process" in second.stderr.readline()
    server.go_on.set()
    for process in (first, second):
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    assert PLACE.read_bytes() == CONTENT
    assert server.ranges_asked("a.bin") == [None]


def test_a_killed_process_leaves_nothing_under_the_final_name_and_the_next_goes_on(server: FileServer):
    server.behaviours["a.bin"] = Behaviour(stall_after=300_000, times=1)
    file = File(urls=[server.url("a.bin")])
    process = in_another_process(file)
    wait_for_bytes(process)
    assert not PLACE.exists()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert status("set", {"a.bin": file})["a.bin"].startswith("partial")

    have = transfer.bytes_in(PART)
    assert fetched(file) == CONTENT
    assert server.ranges_asked("a.bin") == [None, f"bytes={have}-"]
    assert [path.name for path in PLACE.parent.iterdir() if not path.name.startswith(".")] == ["a.bin"]
