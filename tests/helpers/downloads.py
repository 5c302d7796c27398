"""Downloads of one file: its content and places, and what fetching it gives."""

import hashlib
import io
import random
from pathlib import Path

import pytest
from rich.console import Console

from ntkcl.errors import UserError
from ntkcl.fetching.fetch import fetch
from ntkcl.settings.models import File

CONTENT = random.Random(0).randbytes(1_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PLACE, PART = Path("downloads/set/a.bin"), Path("downloads/set/a.bin.part")
RECORDS = Path("params/checksums.json")


def fetched(file: File) -> bytes:
    """The content of `a.bin` after fetching it as `file` says."""
    (path,) = fetch("set", {"a.bin": file}, Console(file=io.StringIO())).values()
    return path.read_bytes()


def refusal(file: File) -> str:
    """The message of the error on fetching, which is one line."""
    with pytest.raises(UserError) as error:
        fetched(file)
    assert "\n" not in str(error.value)
    return str(error.value)
