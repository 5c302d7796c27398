"""What the headers of an HTTP response say about a file."""

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import requests


def extent(response: requests.Response) -> tuple[int, int | None]:
    """Where the body begins in the file, -1 if that cannot be told, and the bytes of the whole file if known."""
    if response.status_code == 206:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        return (int(found[1]), None if found[2] == "*" else int(found[2])) if found else (-1, None)
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdecimal() else None


def end_is_marked(response: requests.Response) -> bool:
    """Whether a cut can be told from the end of the file."""
    return "Content-Length" in response.headers or "Transfer-Encoding" in response.headers


def validator(response: requests.Response) -> str:
    """What tells this content of the address from a later one. A weak ETag does not."""
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified", "")


def revision(response: requests.Response) -> str:
    """The commit that the file is from, which the Hugging Face Hub says before it redirects; "" if not said."""
    answers = [*response.history, response]
    return next((a.headers["X-Repo-Commit"] for a in answers if "X-Repo-Commit" in a.headers), "")


def retry_after(response: requests.Response) -> float:
    """The seconds that the server asks to wait, which it gives as a number or as a date; 0 if it asks nothing."""
    text = response.headers.get("Retry-After", "")
    if text.isdecimal():
        return float(text)
    try:
        return (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()
    except (TypeError, ValueError):
        return 0.0
