"""Reading of .tar, .tar.gz and .zip archives, without extracting them to the disk."""

import gzip
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from ntkcl.errors import UserError

MAX_MEMBER_BYTES = 2**28  # the largest member of the datasets, CIFAR-100's training images, has 150 MiB
ALLOWED_BYTES = 2**30  # total size that is always accepted
MAX_EXPANSION = 100  # total size of the members / size of the archive; about 1 for photographs
MAX_HEADER_BYTES = 2**20  # of long names and similar, which tarfile reads completely

Entry = tuple[str, int, Callable[[], bytes]]


def members(path: Path) -> Iterator[tuple[str, int]]:
    """Yield name and size in bytes of every regular file in the archive `path`, in the archive's order.

    Raises:
        UserError: the archive is damaged, or suspicious: it has links, devices, absolute paths, "..", encrypted
            members or absurd sizes.
    """
    return ((name, size) for name, size, _ in _entries(path))


def contents(path: Path, wanted: Collection[str]) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the `wanted` members of the archive `path`, in the archive's order.

    Raises:
        UserError: as for `members`.
    """
    with _readable(path):
        for name, _, read in _entries(path):
            if name in wanted:
                yield name, read()


def _entries(path: Path) -> Iterator[Entry]:
    """Yield name, size and a function that reads the content of every regular file, valid until the next file."""
    most = max(ALLOWED_BYTES, MAX_EXPANSION * path.stat().st_size if path.exists() else 0)
    total = 0
    with _readable(path):
        for name, size, read in _zip_entries(path) if _starts_with(path, b"PK") else _tar_entries(path):
            total += size
            if not 0 <= size <= MAX_MEMBER_BYTES:
                raise _Refused(name, f"has {size:,} bytes, where 0 to {MAX_MEMBER_BYTES:,} make sense")
            if total > most:
                raise _Refused(name, f"brings the content to more than {most:,} bytes")
            yield name, size, read


def _zip_entries(path: Path) -> Iterator[Entry]:
    with zipfile.ZipFile(path) as archive:
        for info in sorted(archive.infolist(), key=lambda info: info.header_offset):
            kind = info.external_attr >> 28  # of the Unix file type: 4 folder, 8 regular, 0 not given
            if kind not in (0, 4, 8):
                raise _Refused(info.filename, "is a link or a device")
            if info.flag_bits & 1:
                raise _Refused(info.filename, "is encrypted")
            name = _checked(info.filename)
            if not info.is_dir():
                yield name, info.file_size, lambda info=info: archive.read(info)


def _tar_entries(path: Path) -> Iterator[Entry]:
    # Python's gzip checks the sums and reads files of several parts; tarfile's own way with streams does neither.
    opened = gzip.open if _starts_with(path, b"\x1f\x8b") else open
    with opened(path, "rb") as file, _StrictFile.open(fileobj=file, mode="r|") as archive:
        for info in iter(archive.next, None):
            archive.members.clear()  # which else grow with the archive
            name = _checked(info.name)
            if not (info.isfile() or info.isdir()):
                raise _Refused(info.name, "is a link or a device")
            if info.isfile():
                yield name, info.size, lambda info=info: archive.extractfile(info).read()
        while file.read(2**20):  # to the end, where gzip has its checksum
            pass


class _Strict(tarfile.TarInfo):
    """A header of a tar archive; anything unusual in it is an error."""

    @classmethod
    def fromtarfile(cls, archive: "_StrictFile") -> tarfile.TarInfo:
        """Read the next header; tarfile alone takes a damaged header, and a missing end, for the end of the archive."""
        try:
            return super().fromtarfile(archive)
        except tarfile.EmptyHeaderError as error:
            raise tarfile.ReadError("its end is missing") from error
        except (tarfile.TruncatedHeaderError, tarfile.InvalidHeaderError) as error:
            raise tarfile.ReadError(str(error)) from error

    def _proc_member(self, archive: "_StrictFile") -> tarfile.TarInfo:
        """Process a header like tarfile, but refuse absurd sizes first."""
        if self.type == tarfile.XGLTYPE:
            archive.for_all += self.size
        else:
            archive.for_next = archive.for_next + self.size if self.type in _HEADERS_OF_OTHERS else 0
        if self.size < 0 or archive.for_all + archive.for_next > MAX_HEADER_BYTES:
            raise _Refused(
                self.name, f"announces {self.size:,} bytes; headers have at most {MAX_HEADER_BYTES:,} in all"
            )
        return super()._proc_member(archive)

    def _sparse(self, *_: object) -> None:
        raise _Refused(self.name, "is sparse, as images never are")  # and its map may be endless

    _proc_sparse = _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _sparse


_HEADERS_OF_OTHERS = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)


class _StrictFile(tarfile.TarFile):
    """A tar archive that counts the bytes of headers in memory: `for_all` members, and `for_next`, the next one."""

    tarinfo = _Strict
    for_all = for_next = 0


def _checked(name: str) -> str:
    parts = re.split(r"[/\\]", name)
    if parts[0] == "" or ".." in parts or re.match("[A-Za-z]:", name):
        raise _Refused(name, "points outside the archive")
    return name.removeprefix("./")


class _Refused(Exception):
    """A suspicious member of an archive: its name and the reason."""


def _starts_with(path: Path, magic: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(magic)) == magic


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn errors of reading into a `UserError`."""
    try:
        yield
    except _Refused as error:
        name, reason = error.args
        raise UserError(f"{path} is refused: its member {name!r} {reason}; check where the file comes from") from error
    except NotImplementedError as error:
        raise UserError(f"{path} cannot be read ({error}); pack its content again, as .zip or .tar") from error
    except (OSError, EOFError, ValueError, RecursionError, zlib.error, zipfile.BadZipFile, tarfile.TarError) as error:
        raise UserError(f"{path} is cut off or damaged ({error}); delete it and run the same command again") from error
