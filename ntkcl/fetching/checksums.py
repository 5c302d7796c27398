"""What a downloaded file must be: as its settings say, and as it was when it first came."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from ntkcl.errors import UserError
from ntkcl.settings.files import PARAMS
from ntkcl.settings.models import File, Model
from ntkcl.settings.validation import validated
from ntkcl.storage.files import read_json, write_json

CHUNK = 1 << 20  # bytes


class Record(Model):
    """A file that came without a known sha256, as it was then: an entry of `params/checksums.json`."""

    sha256: str
    size: int
    url: str = ""
    revision: str = ""


class Mismatch(Exception):
    """A file is not what it must be; the text says in what."""


@dataclass(frozen=True)
class Expected:
    """What a file must be, by "size" (bytes), "sha256", "md5" and "git_blob", as far as known."""

    published: dict[str, str | int]
    recorded: dict[str, str | int]

    @property
    def size(self) -> int | None:
        """Bytes."""
        return (self.recorded | self.published).get("size")

    @property
    def checksums(self) -> dict[str, str]:
        """By algorithm."""
        return {name: value for name, value in (self.recorded | self.published).items() if name != "size"}

    def check(self, path: Path) -> dict[str, str | int]:
        """Size, sha256 and what else is expected of the file at `path`, read once.

        Raises:
            Mismatch: one of them is not as expected.
        """
        found = {"size": path.stat().st_size}
        self.compare(found)
        found |= _checksums(path, {"sha256", *self.checksums})
        self.compare(found)
        return found

    def compare(self, found: dict[str, str | int]) -> None:
        """Check what is found of a file, be it only its size.

        Raises:
            Mismatch: something is not as expected.
        """
        for name, value in found.items():
            if value != self.published.get(name, value):
                raise Mismatch(f"its {name} is {value}, not {self.published[name]}")
            if value != self.recorded.get(name, value):
                raise Mismatch(
                    f"its {name} is {value}, but {records_path()} has {self.recorded[name]} from the first time; "
                    "if the publisher changed it on purpose, remove its entry there"
                )


def expected(key: str, file: File) -> Expected:
    """What the file `key` ("owner/file name") must be. What is recorded counts where the settings say nothing."""
    published = file.model_dump(include={"size", "sha256", "md5", "git_blob"}, exclude_none=True)
    entry = recorded(key)
    known = entry.model_dump(include={"size", "sha256"}) if entry else {}
    return Expected(published, {name: value for name, value in known.items() if name not in published})


def records_path() -> Path:
    """The file of records. It belongs in git, so that others get the same files or an error."""
    return PARAMS / "checksums.json"


def recorded(key: str) -> Record | None:
    """The record of the file `key` ("owner/file name"), if there is one.

    Raises:
        UserError: the file of records cannot be understood.
    """
    return _records().get(key)


def record(key: str, new: Record) -> None:
    """Record the file `key` unless it is recorded.

    Raises:
        UserError: the record cannot be written.
    """
    try:
        with FileLock(records_path().with_name(".checksums.lock")):
            records = {key: new} | _records()
            write_json(records_path(), {key: entry.model_dump(exclude_defaults=True) for key, entry in records.items()})
    except OSError as error:
        raise UserError(f"cannot write {records_path()} ({error.strerror}); make its folder writable") from error


def _records() -> dict[str, Record]:
    path = records_path()
    entries = read_json(path) if path.is_file() else {}
    return {key: validated(Record, entry, f"{path}, {key}") for key, entry in entries.items()}


def _checksums(path: Path, algorithms: set[str]) -> dict[str, str]:
    sums = {name: hashlib.new("sha1" if name == "git_blob" else name, usedforsecurity=False) for name in algorithms}
    if "git_blob" in sums:
        sums["git_blob"].update(b"blob %d\0" % path.stat().st_size)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            for checksum in sums.values():
                checksum.update(chunk)
    return {name: checksum.hexdigest() for name, checksum in sums.items()}
