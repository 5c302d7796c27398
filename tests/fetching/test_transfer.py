"""Downloads survive what servers and networks do, with as few bytes as possible, and give up in the end."""

import hashlib
import os
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from ntkcl.fetching import transfer
from ntkcl.settings.models import File
from tests.helpers.downloads import CONTENT, PART, PLACE, RECORDS, SHA256, fetched, refusal
from tests.helpers.http_server import Behaviour, FileServer

HALF = 500_000


def interrupted(server: FileServer, file: File, monkeypatch, **behaviour) -> None:
    """Leave a part of `a.bin`, as a process does that was stopped in the middle."""
    server.behaviours["a.bin"] = Behaviour(cut_after=HALF, **behaviour)
    with monkeypatch.context() as patch:
        patch.setattr(transfer, "MAX_REQUESTS", 1)
        refusal(file)
    server.behaviours["a.bin"] = Behaviour(**behaviour)
    server.requests.clear()


@pytest.mark.parametrize("ranges", [True, False])
def test_a_cut_file_is_gone_on_with_where_the_server_can(server: FileServer, ranges: bool):
    server.behaviours["a.bin"] = Behaviour(cut_after=HALF, times=1, ranges=ranges)
    assert fetched(File(urls=[server.url("a.bin")])) == CONTENT
    first, second = (request.headers for request in server.requests)
    assert (first["Range"], first["User-Agent"][:6]) == (None, "ntkcl/")
    assert int(second["Range"].removeprefix("bytes=").removesuffix("-")) > HALF - transfer.CHUNK_BYTES
    assert second["If-Range"].startswith('"')


def test_many_cuts_are_survived_as_long_as_bytes_arrive_up_to_a_bound(server: FileServer, monkeypatch):
    server.behaviours["a.bin"] = Behaviour(cut_after=2 * transfer.CHUNK_BYTES)
    file = File(urls=[server.url("a.bin")])
    monkeypatch.setattr(transfer, "MAX_REQUESTS", transfer.MAX_FAILURES + 1)
    refusal(file)
    assert len(server.requests) == transfer.MAX_FAILURES + 1
    assert fetched(file) == CONTENT


@pytest.mark.parametrize("ranges", [True, False])
def test_cuts_without_a_new_byte_end_soon(server: FileServer, ranges: bool):
    server.behaviours["a.bin"] = Behaviour(cut_after=0 if ranges else HALF, ranges=ranges)
    refusal(File(urls=[server.url("a.bin")]))
    assert len(server.requests) == transfer.MAX_FAILURES


def test_a_stalled_connection_is_given_up_and_gone_on_with(server: FileServer, monkeypatch):
    monkeypatch.setattr(transfer, "TIMEOUT_SECONDS", (10, 0.5))
    server.behaviours["a.bin"] = Behaviour(stall_after=HALF, times=1)
    assert fetched(File(urls=[server.url("a.bin")])) == CONTENT
    assert server.ranges_asked("a.bin")[1] is not None


@pytest.mark.parametrize("behaviour", [{}, {"if_range": False}, {"etag": False, "if_range": False}])
def test_a_part_of_an_older_file_is_not_gone_on_with(server: FileServer, monkeypatch, behaviour: dict):
    file = File(urls=[server.url("a.bin")])
    interrupted(server, file, monkeypatch, **behaviour)
    newer = CONTENT[::-1]
    (server.folder / "a.bin").write_bytes(newer)
    if "etag" in behaviour:  # then Last-Modified has to tell, which counts seconds
        os.utime(server.folder / "a.bin", (1e9, 1e9))
    assert fetched(file) == newer
    assert server.ranges_asked("a.bin")[0] is not None


@pytest.mark.parametrize("behaviour", [{"etag": False}, {"headers": {"ETag": 'W/"weak"'}}])
def test_without_validator_or_checksum_a_part_is_not_gone_on_with(server: FileServer, monkeypatch, behaviour: dict):
    unknown = File(urls=[server.url("a.bin")])
    interrupted(server, unknown, monkeypatch, modified=False, **behaviour)
    assert fetched(unknown) == CONTENT
    assert server.ranges_asked("a.bin") == [None]


def test_with_a_known_checksum_a_mirror_goes_on_with_the_part_of_another(server: FileServer, monkeypatch):
    interrupted(server, File(urls=[server.url("a.bin")]), monkeypatch, etag=False, modified=False)
    assert fetched(File(urls=[server.url("b.bin")], sha256=SHA256)) == CONTENT
    assert server.ranges_asked("b.bin")[0] is not None
    assert server.requests[0].headers["If-Range"] is None


def test_a_part_that_does_not_belong_is_found_out_by_the_checksum(server: FileServer, monkeypatch):
    interrupted(server, File(urls=[server.url("a.bin")]), monkeypatch)
    (server.folder / "b.bin").write_bytes(CONTENT[::-1])
    other = File(urls=[server.url("b.bin")], md5=hashlib.md5(CONTENT[::-1]).hexdigest())
    assert fetched(other) == CONTENT[::-1]
    assert len(server.requests) == 2


def test_a_part_that_is_whole_already_is_only_verified(server: FileServer):
    file = File(urls=[server.url("a.bin")])
    fetched(file)
    PLACE.rename(PART)
    assert fetched(file) == CONTENT
    assert len(server.requests) == 1


@pytest.mark.parametrize("fault", [{"status": 416}, {"range_off": 5}])
def test_a_refused_or_wrong_part_is_fetched_from_the_beginning(server: FileServer, monkeypatch, fault: dict):
    file = File(urls=[server.url("a.bin")])
    interrupted(server, file, monkeypatch)
    server.behaviours["a.bin"] = Behaviour(times=1, **fault)
    assert fetched(file) == CONTENT
    first, second = server.ranges_asked("a.bin")
    assert first is not None
    assert second is None


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_what_may_pass_is_tried_again(server: FileServer, status: int):
    server.behaviours["a.bin"] = Behaviour(status=status, times=2)
    assert fetched(File(urls=[server.url("a.bin"), server.url("b.bin")])) == CONTENT
    assert [request.name for request in server.requests] == ["a.bin"] * 3


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_what_will_not_pass_leads_to_the_next_address_at_once(server: FileServer, status: int):
    server.behaviours["a.bin"] = Behaviour(status=status)
    assert fetched(File(urls=[server.url("a.bin"), server.url("b.bin")])) == CONTENT
    assert [request.name for request in server.requests] == ["a.bin", "b.bin"]


def test_waits_grow_and_the_servers_wish_counts_within_bounds(server: FileServer, monkeypatch):
    waits = []
    monkeypatch.setattr(transfer.time, "sleep", waits.append)
    monkeypatch.setattr(transfer, "FIRST_WAIT_SECONDS", 1.0)
    server.behaviours["a.bin"] = Behaviour(status=503)
    refusal(File(urls=[server.url("a.bin")]))
    assert waits == [1, 2, 4, 8]
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    for wish in ("60", "99999", soon):
        server.behaviours["a.bin"] = Behaviour(status=429, retry_after=wish)
        refusal(File(urls=[server.url("a.bin")]))
    assert waits[4:12] == [60] * 4 + [transfer.MAX_WAIT_SECONDS] * 4
    assert all(8 < wait <= 100 for wait in waits[12:])


def test_damage_on_the_way_is_fetched_once_more_and_then_from_the_next_address(server: FileServer):
    file = File(urls=[server.url("a.bin"), server.url("b.bin")], sha256=SHA256)
    server.behaviours["a.bin"] = Behaviour(wrong_byte=True)
    assert fetched(file) == CONTENT
    assert server.ranges_asked("a.bin") == [None, None]
    assert server.ranges_asked("b.bin") == [None]


def test_damage_that_does_not_come_again_needs_no_other_address(server: FileServer):
    server.behaviours["a.bin"] = Behaviour(wrong_byte=True, times=1)
    assert fetched(File(urls=[server.url("a.bin"), server.url("b.bin")], sha256=SHA256)) == CONTENT
    assert [request.name for request in server.requests] == ["a.bin", "a.bin"]


@pytest.mark.parametrize("behaviour", [{"length_off": 7}, {"length_off": -7}, {"chunked": True}])
def test_another_size_than_published_leads_to_the_next_address_at_once(server: FileServer, behaviour: dict):
    server.behaviours["a.bin"] = Behaviour(**behaviour)
    (server.folder / "a.bin").write_bytes(CONTENT + CONTENT if "chunked" in behaviour else CONTENT)
    assert fetched(File(urls=[server.url("a.bin"), server.url("b.bin")], size=len(CONTENT))) == CONTENT
    assert [request.name for request in server.requests] == ["a.bin", "b.bin"]


def test_a_file_without_announced_length_comes_whole(server: FileServer):
    server.behaviours["a.bin"] = Behaviour(chunked=True)
    assert fetched(File(urls=[server.url("a.bin")])) == CONTENT


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"Content-Length": ""}, "incomplete download could not be"),
        ({"Content-Type": "text/html; charset=utf-8"}, "a web page"),
    ],
)
def test_what_may_not_be_the_file_is_not_recorded_as_the_file(server: FileServer, headers: dict, reason: str):
    server.behaviours["a.bin"] = Behaviour(headers=headers)
    assert reason in refusal(File(urls=[server.url("a.bin")]))
    assert not RECORDS.exists()
