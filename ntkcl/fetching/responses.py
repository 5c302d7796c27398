"""Information about a file in the headers of an HTTP response."""

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import requests


def extent(response: requests.Response) -> tuple[int, int | None]:
    """Return the offset of the body in the file (-1: unknown), and the size of the file in bytes (None: unknown)."""
    if response.status_code == 206:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        return (int(found[1]), None if found[2] == "*" else int(found[2])) if found else (-1, None)
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdecimal() else None


def end_is_marked(response: requests.Response) -> bool:
    """Return whether an interrupted body can be distinguished from a complete one."""
    return "Content-Length" in response.headers or "Transfer-Encoding" in response.headers


def validator(response: requests.Response) -> str:
    """Return a text that identifies this version of the file: a strong ETag or the time of its last change."""
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified", "")


def revision(response: requests.Response) -> str:
    """Return the file's commit, which the Hugging Face Hub sends before it redirects; "" if there is none."""
    answers = [*response.history, response]
    return next((a.headers["X-Repo-Commit"] for a in answers if "X-Repo-Commit" in a.headers), "")


def retry_after(response: requests.Response) -> float:
    """Return the seconds that the server asks to wait, as a number or as a date; 0 if it does not ask."""
    text = response.headers.get("Retry-After", "")
    if text.isdecimal():
        return float(text)
    try:
        return (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()
    except (TypeError, ValueError):
        return 0.0
