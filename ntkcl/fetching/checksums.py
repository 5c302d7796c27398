"""Expected content of a downloaded file: by its settings, and by the record of its first download."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from ntkcl.errors import UserError
from ntkcl.settings.files import PARAMS
from ntkcl.settings.models import File, Model
from ntkcl.settings.validation import validated
from ntkcl.storage.files import read_json, write_json

CHUNK_BYTES = 1 << 20


class Record(Model):
    """First download of a file without a known sha256: an entry of `params/checksums.json`."""

    sha256: str
    size: int
    url: str = ""
    revision: str = ""


class Mismatch(Exception):
    """A file does not have the expected content; the text says what differs."""


@dataclass(frozen=True)
class Expected:
    """Expected "size" (bytes), "sha256", "md5" and "git_blob" of a file, as far as they are known."""

    published: dict[str, str | int]
    recorded: dict[str, str | int]

    @property
    def size(self) -> int | None:
        """Size in bytes."""
        return (self.recorded | self.published).get("size")

    @property
    def checksums(self) -> dict[str, str]:
        """Checksums by algorithm."""
        return {name: value for name, value in (self.recorded | self.published).items() if name != "size"}

    def check(self, path: Path) -> dict[str, str | int]:
        """Compute size, sha256 and the other expected checksums of the file at `path`, and compare them.

        Raises:
            Mismatch: one of them is not as expected.
        """
        found = {"size": path.stat().st_size}
        self.compare(found)
        found |= _checksums(path, {"sha256", *self.checksums})
        self.compare(found)
        return found

    def compare(self, found: dict[str, str | int]) -> None:
        """Compare the properties that were found, such as the size alone, with the expected ones.

        Raises:
            Mismatch: a property is not as expected.
        """
        for name, value in found.items():
            if value != self.published.get(name, value):
                raise Mismatch(f"its {name} is {value}, not {self.published[name]}")
            if value != self.recorded.get(name, value):
                raise Mismatch(
                    f"its {name} is {value}, but {records_path()} has {self.recorded[name]} from the first download; "
                    "if the publisher changed it on purpose, remove its entry there"
                )


def expected(key: str, file: File) -> Expected:
    """Return what is expected of the file `key` ("owner/file name"): by its settings, else by its record."""
    published = file.model_dump(include={"size", "sha256", "md5", "git_blob"}, exclude_none=True)
    entry = recorded(key)
    known = entry.model_dump(include={"size", "sha256"}) if entry else {}
    return Expected(published, {name: value for name, value in known.items() if name not in published})


def records_path() -> Path:
    """Return the path of the records. The file belongs in git, so that others get the same files or an error."""
    return PARAMS / "checksums.json"


def recorded(key: str) -> Record | None:
    """Return the record of the file `key` ("owner/file name"), if there is one.

    Raises:
        UserError: the file of records is not valid.
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
    if not isinstance(entries, dict):
        raise UserError(f"{path} has no records by file; restore it from git, or delete it")
    return {key: validated(Record, entry, f"{path}, {key}") for key, entry in entries.items()}


def _checksums(path: Path, algorithms: set[str]) -> dict[str, str]:
    sums = {name: hashlib.new("sha1" if name == "git_blob" else name, usedforsecurity=False) for name in algorithms}
    if "git_blob" in sums:
        sums["git_blob"].update(b"blob %d\0" % path.stat().st_size)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            for checksum in sums.values():
                checksum.update(chunk)
    return {name: checksum.hexdigest() for name, checksum in sums.items()}
