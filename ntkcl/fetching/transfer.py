"""From one web address to one file: gone on with after a cut, tried again after a failure, neither for ever."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests
import urllib3

from ntkcl import __version__
from ntkcl.errors import UserError
from ntkcl.fetching.checksums import Expected
from ntkcl.fetching.responses import end_is_marked, extent, retry_after, revision, validator
from ntkcl.settings.models import Model
from ntkcl.settings.validation import validated
from ntkcl.storage.files import read_json, write_json

TIMEOUTS = (10, 60)  # seconds: to connect, and without a new byte
MOST_FAILURES = 5  # in a row, without a new byte
MOST_REQUESTS = 100  # of one file from one address
FIRST_WAIT, LONGEST_WAIT = 1.0, 120.0  # seconds between requests; each wait is twice the one before
CHUNK = 1 << 16  # bytes
MAY_PASS = {408, 429, *range(500, 600)}  # HTTP statuses
HEADERS = {"User-Agent": f"ntkcl/{__version__}", "Accept-Encoding": "identity"}


class Unavailable(Exception):
    """An address does not give the file; the text says why."""


class Interrupted(Exception):
    """One request failed; the next may not. `wait` is what the server asks for, in seconds."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class Origin(Model):
    """Where the bytes of a part come from. It lies beside the part, for the process that goes on with it."""

    url: str = ""
    validator: str = ""
    size: int | None = None
    revision: str = ""


@dataclass(frozen=True)
class Transfer:
    """One file from one address.

    Args:
        url: the address.
        part: the file to fill.
        expected: what the file must be. With a checksum, a part is gone on with even if no validator vouches for it.
        report: called with the bytes that are there and those of the whole file, if known.
    """

    url: str
    part: Path
    expected: Expected
    report: Callable[[int, int | None], None]

    def run(self) -> Origin:
        """Fill the part to its end, with as many requests as that takes.

        Raises:
            Unavailable: the address does not give this file, or failed too often.
            Mismatch: the file there has another size.
            UserError: the part cannot be written.
        """
        furthest, failures = bytes_in(self.part), 0
        for _ in range(MOST_REQUESTS):
            try:
                return self._request()
            except Interrupted as error:
                reason, wait = str(error), error.wait
            reached = bytes_in(self.part)
            failures = 1 if reached > furthest else failures + 1
            furthest = max(furthest, reached)
            if failures == MOST_FAILURES:
                break
            time.sleep(min(max(wait, FIRST_WAIT * 2 ** (failures - 1)), LONGEST_WAIT))
        raise Unavailable(f"{reason}, tried again and again")

    def _request(self) -> Origin:
        origin = origin_of(self.part)
        vouched = origin.validator if origin.url == self.url else ""
        have = bytes_in(self.part) if vouched or self.expected.checksums else 0
        whole = self.expected.size or origin.size
        if have and have == whole:
            return origin
        if whole and have > whole:
            have = 0
        headers = {"Range": f"bytes={have}-"} if have else {}
        if have and vouched:
            headers["If-Range"] = vouched
        with (
            self._errors_named(),
            requests.get(self.url, headers=HEADERS | headers, stream=True, timeout=TIMEOUTS) as response,
        ):
            _check_status(response, self.part)
            start, whole = extent(response)
            if start and (start != have or vouched not in ("", validator(response))):
                discard(self.part)
                raise Interrupted("the server sent another part than it was asked for")
            return self._receive(response, start, whole)

    def _receive(self, response: requests.Response, have: int, whole: int | None) -> Origin:
        if whole:
            self.expected.compare({"size": whole})
        whole = whole or self.expected.size
        if not (whole or self.expected.checksums or end_is_marked(response)):
            raise Unavailable("the server does not say where the file ends, so that a cut would go unnoticed")
        origin = Origin(url=self.url, validator=validator(response), size=whole, revision=revision(response))
        with self.part.open("ab" if have else "wb") as file:
            # now that an older part is gone: this must never vouch for what it does not belong to
            write_json(_origin_path(self.part), origin.model_dump())
            for chunk in response.raw.stream(CHUNK, decode_content=False):  # as sent: an archive may be "encoded"
                file.write(chunk)
                file.flush()
                have += len(chunk)
                self.report(have, whole)
                if whole and have > whole:
                    discard(self.part)
                    self.expected.compare({"size": f"more than {whole}"})
                    raise Interrupted("the server sent more than it had announced")
            os.fsync(file.fileno())
        if have < (whole or 1):  # an empty file would be nobody's wish
            raise Interrupted(f"the connection ended after {have} of {whole or 'some'} bytes")
        return origin

    @contextmanager
    def _errors_named(self) -> Iterator[None]:
        try:
            yield
        except (requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError) as error:
            raise Interrupted(_root(error)) from error
        except requests.RequestException as error:
            raise Unavailable(_root(error)) from error
        except OSError as error:
            raise UserError(
                f"cannot write {self.part}: {_root(error)}; free space or fix the permission, or set NTKCL_DOWNLOADS "
                "to another folder, then run the same command again"
            ) from error


def bytes_in(path: Path) -> int:
    """The size of a file, 0 if there is none."""
    return path.stat().st_size if path.is_file() else 0


def origin_of(part: Path) -> Origin:
    """Where the bytes of a part come from, as far as known."""
    path = _origin_path(part)
    return validated(Origin, read_json(path), str(path)) if path.is_file() else Origin()


def discard(part: Path) -> None:
    """Remove a part and what is known of it."""
    part.unlink(missing_ok=True)
    _origin_path(part).unlink(missing_ok=True)


def _origin_path(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _check_status(response: requests.Response, part: Path) -> None:
    status = response.status_code
    if status == 416:
        discard(part)
        raise Interrupted("the server has no such part")
    if status in MAY_PASS:
        raise Interrupted(f"HTTP {status}", retry_after(response))
    if status not in (200, 206):
        raise Unavailable(f"HTTP {status}")
    if response.headers.get("Content-Type", "").startswith("text/html") and ".htm" not in part.name:
        raise Unavailable("it sent a web page in place of the file")


def _root(error: BaseException) -> str:
    """The first cause of an error in words: what libraries wrap around it says little more."""
    while error.__context__:
        error = error.__context__
    return getattr(error, "strerror", None) or str(error)
