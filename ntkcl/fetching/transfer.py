"""Download of one file from one address: resumes after an interruption, retries after a failure, up to a limit."""

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

TIMEOUT_SECONDS = (10, 60)  # to connect, and without a new byte
MAX_FAILURES = 5  # consecutive, without a new byte
MAX_REQUESTS = 100  # for one file from one address
FIRST_WAIT_SECONDS, MAX_WAIT_SECONDS = 1.0, 120.0  # between requests; each wait is twice the one before
CHUNK_BYTES = 1 << 16
TEMPORARY_STATUSES = {408, 429, *range(500, 600)}  # of HTTP
HEADERS = {"User-Agent": f"ntkcl/{__version__}", "Accept-Encoding": "identity"}


class Unavailable(Exception):
    """The file cannot be downloaded from an address; the text says why."""


class Interrupted(Exception):
    """A request failed, but the next may succeed. `wait`: seconds that the server asks to wait."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class Origin(Model):
    """Origin of the bytes of a partial file. It is stored next to the part, for a process that resumes the download."""

    url: str = ""
    validator: str = ""
    size: int | None = None
    revision: str = ""


@dataclass(frozen=True)
class Transfer:
    """One file from one address.

    Args:
        url: the address.
        part: the partial file.
        expected: expected content. If it has a checksum, a part is resumed even without a validator.
        report: called with the bytes so far and the size of the file, if it is known.
    """

    url: str
    part: Path
    expected: Expected
    report: Callable[[int, int | None], None]

    def run(self) -> Origin:
        """Complete the part, with as many requests as needed.

        Raises:
            Unavailable: the address does not have this file, or failed too often.
            Mismatch: the file at the address has another size.
            UserError: the part cannot be written.
        """
        furthest, failures = bytes_in(self.part), 0
        for _ in range(MAX_REQUESTS):
            try:
                return self._request()
            except Interrupted as error:
                reason, wait = str(error), error.wait
            reached = bytes_in(self.part)
            failures = 1 if reached > furthest else failures + 1
            furthest = max(furthest, reached)
            if failures == MAX_FAILURES:
                break
            time.sleep(min(max(wait, FIRST_WAIT_SECONDS * 2 ** (failures - 1)), MAX_WAIT_SECONDS))
        raise Unavailable(f"{reason}, after several attempts")

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
            requests.get(self.url, headers=HEADERS | headers, stream=True, timeout=TIMEOUT_SECONDS) as response,
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
            raise Unavailable(
                "the server does not send the size of the file, so an incomplete download could not be detected"
            )
        origin = Origin(url=self.url, validator=validator(response), size=whole, revision=revision(response))
        with self.part.open("ab" if have else "wb") as file:
            # written after an older part is gone, so that it never describes the wrong bytes
            write_json(_origin_path(self.part), origin.model_dump())
            for chunk in response.raw.stream(CHUNK_BYTES, decode_content=False):  # as sent: archives may be "encoded"
                file.write(chunk)
                file.flush()
                have += len(chunk)
                self.report(have, whole)
                if whole and have > whole:
                    discard(self.part)
                    self.expected.compare({"size": f"more than {whole}"})
                    raise Interrupted("the server sent more than it had announced")
            os.fsync(file.fileno())
        if have < (whole or 1):  # an empty file is never wanted
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
    """Return the size of a file in bytes, 0 if it does not exist."""
    return path.stat().st_size if path.is_file() else 0


def origin_of(part: Path) -> Origin:
    """Return the origin of a part, as far as it is known."""
    path = _origin_path(part)
    return validated(Origin, read_json(path), str(path)) if path.is_file() else Origin()


def discard(part: Path) -> None:
    """Remove a part and its origin."""
    part.unlink(missing_ok=True)
    _origin_path(part).unlink(missing_ok=True)


def _origin_path(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _check_status(response: requests.Response, part: Path) -> None:
    status = response.status_code
    if status == 416:
        discard(part)
        raise Interrupted("the server has no such part")
    if status in TEMPORARY_STATUSES:
        raise Interrupted(f"HTTP {status}", retry_after(response))
    if status not in (200, 206):
        raise Unavailable(f"HTTP {status}")
    if response.headers.get("Content-Type", "").startswith("text/html") and ".htm" not in part.name:
        raise Unavailable("it sent a web page in place of the file")


def _root(error: BaseException) -> str:
    """Return the text of the first cause of an error, without what libraries wrap around it."""
    while error.__context__:
        error = error.__context__
    return getattr(error, "strerror", None) or str(error)
