"""What lies in a .tar, .tar.gz or .zip, read from the archive itself: nothing is ever extracted to the disk."""

import gzip
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from ntkcl.errors import UserError

LARGEST_MEMBER = 2**28  # bytes; the largest of the datasets, CIFAR-100's training images, has 150 MiB
ALWAYS_FINE = 2**30  # bytes in all
LARGEST_RATIO = 100  # all members by the archive; photographs do not shrink at all

Entry = tuple[str, int, Callable[[], bytes]]


def members(path: Path) -> Iterator[tuple[str, int]]:
    """Name and size in bytes of every regular file in the archive `path`, in the archive's order.

    Raises:
        UserError: the archive is damaged, or one that no honest publisher makes: with links, devices, absolute
            paths, "..", encrypted members or absurd sizes.
    """
    return ((name, size) for name, size, _ in _entries(path))


def contents(path: Path, wanted: Collection[str]) -> Iterator[tuple[str, bytes]]:
    """Name and content of the `wanted` members of the archive `path`, in the archive's order, one at a time.

    Raises:
        UserError: as for `members`.
    """
    with _readable(path):
        for name, _, read in _entries(path):
            if name in wanted:
                yield name, read()


def _entries(path: Path) -> Iterator[Entry]:
    """Name, size and a way to the content of every regular file; the way is open until the next one is asked for."""
    most = max(ALWAYS_FINE, LARGEST_RATIO * path.stat().st_size if path.exists() else 0)
    total = 0
    with _readable(path):
        for name, size, read in _zip_entries(path) if _starts_with(path, b"PK") else _tar_entries(path):
            total += size
            if size > LARGEST_MEMBER:
                _refuse(path, name, f"has {size:,} bytes, more than {LARGEST_MEMBER:,}")
            if total > most:
                _refuse(path, name, f"brings the content to more than {most:,} bytes")
            yield name, size, read


def _zip_entries(path: Path) -> Iterator[Entry]:
    with zipfile.ZipFile(path) as archive:
        for info in sorted(archive.infolist(), key=lambda info: info.header_offset):
            kind = info.external_attr >> 28  # of the Unix file type: 4 folder, 8 regular, 0 not given
            if kind not in (0, 4, 8):
                _refuse(path, info.filename, "is a link or a device")
            if info.flag_bits & 1:
                _refuse(path, info.filename, "is encrypted")
            name = _checked(path, info.filename)
            if not info.is_dir():
                yield name, info.file_size, lambda info=info: archive.read(info)


def _tar_entries(path: Path) -> Iterator[Entry]:
    # Python's gzip checks the sums and reads files of several parts; tarfile's own way with streams does neither.
    opened = gzip.open if _starts_with(path, b"\x1f\x8b") else open
    with opened(path, "rb") as file, tarfile.open(fileobj=file, mode="r|", tarinfo=_Strict) as archive:
        for info in archive:
            name = _checked(path, info.name)
            if not (info.isfile() or info.isdir()):
                _refuse(path, info.name, "is a link or a device")
            if info.isfile():
                yield name, info.size, lambda info=info: archive.extractfile(info).read()
        while file.read(2**20):  # to the end, where gzip has its sum
            pass


class _Strict(tarfile.TarInfo):
    """tarfile takes a damaged header for the end of the archive; here it is an error."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> tarfile.TarInfo:
        try:
            return super().fromtarfile(archive)
        except (tarfile.TruncatedHeaderError, tarfile.InvalidHeaderError) as error:
            raise tarfile.ReadError(str(error)) from error


def _checked(path: Path, name: str) -> str:
    parts = re.split(r"[/\\]", name)
    if parts[0] == "" or ".." in parts or re.match("[A-Za-z]:", name):
        _refuse(path, name, "points outside the archive")
    return name.removeprefix("./")


def _refuse(path: Path, name: str, reason: str) -> None:
    raise UserError(f"{path} is refused: its member {name!r} {reason}; check where the file comes from")


def _starts_with(path: Path, magic: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(magic)) == magic


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Errors of reading as errors of one line."""
    try:
        yield
    except NotImplementedError as error:
        raise UserError(f"{path} cannot be read ({error}); pack its content anew, as .zip or .tar") from error
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, tarfile.TarError) as error:
        raise UserError(f"{path} is cut off or damaged ({error}); delete it and run the same command again") from error
