"""Files of datasets and backbones: downloaded, or put there by the user, and verified in either case."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.filesize import decimal

from ntkcl.errors import UserError
from ntkcl.fetching.checksums import Expected, Mismatch, Record, expected, record, recorded
from ntkcl.fetching.transfer import Origin, Transfer, Unavailable, bytes_in, discard
from ntkcl.progress import shown
from ntkcl.settings.models import File
from ntkcl.storage.lock import exclusive


def downloads_folder() -> Path:
    """Return the folder of downloads: `$NTKCL_DOWNLOADS`, or `downloads`."""
    return Path(os.environ.get("NTKCL_DOWNLOADS") or "downloads")


def path_of(owner: str, name: str) -> Path:
    """Return the path of the file `name` of a dataset or backbone.

    Raises:
        UserError: a name would lead out of the folder.
    """
    for part in (owner, name):
        if not part or "/" in part or ".." in part:
            raise UserError(f"'{part}' cannot name a download of '{owner}'; name it without '/' and '..'")
    return downloads_folder() / owner / name


def fetch(owner: str, files: dict[str, File], console: Console | None = None) -> dict[str, Path]:
    """Download and verify all files of a dataset or backbone. Files that exist are only verified.

    Args:
        owner: name of the dataset or backbone.
        files: files by name.
        console: shows the progress, as a bar in a terminal or as lines in a file; standard error by default.

    Returns:
        Path of each file.

    Raises:
        UserError: the user must download a file, no address works, a file has other content, or the disk is full.
    """
    console = console or Console(stderr=True)
    downloads = [_Download(owner, name, file, console) for name, file in files.items()]
    _check_space(downloads)
    for download in sorted(downloads, key=lambda one: bool(one.file.urls)):  # first those that may need the user
        download.make_present()
    return {name: path_of(owner, name) for name in files}


def confirm(owner: str, files: dict[str, File]) -> None:
    """Record the files that the user put there, after they were used successfully.

    Recorded earlier, a wrong file would make the correct one an error.

    Raises:
        UserError: a record cannot be written.
    """
    for name, file in files.items():
        download = _Download(owner, name, file, Console(stderr=True))
        if not file.sha256 and not recorded(download.key):
            download.remember(download.expected.check(download.path), Origin())


def status(owner: str, files: dict[str, File]) -> dict[str, str]:
    """Return the state of each file, without reading it: "present (size)", "partial (size)", "missing" or "manual"."""
    return {name: _status(path_of(owner, name), file) for name, file in files.items()}


def _status(path: Path, file: File) -> str:
    if path.is_file():
        return f"present ({decimal(bytes_in(path))})"
    if have := bytes_in(_part_of(path)):
        return f"partial ({decimal(have)})"
    return "missing" if file.urls else "manual"


def _part_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


@dataclass(frozen=True)
class _Download:
    owner: str
    name: str
    file: File
    console: Console

    @property
    def key(self) -> str:
        return f"{self.owner}/{self.name}"

    @property
    def path(self) -> Path:
        return path_of(self.owner, self.name)

    @property
    def expected(self) -> Expected:
        return expected(self.key, self.file)

    def make_present(self) -> None:
        """Verify the file, or download it."""
        if not self.path.is_file():
            if not self.file.urls:
                self.path.parent.mkdir(parents=True, exist_ok=True)  # for the user
                raise UserError(f"{self.key} must be downloaded manually: {self._instructions()}")
            lock = self.path.with_name(f".{self.name}.lock")
            with exclusive(lock, f"downloads {self.key}", "make it writable, or set NTKCL_DOWNLOADS to another folder"):
                if not self.path.is_file():  # another process may have downloaded it meanwhile
                    return self._download()
        try:
            self._accept(self.path, Origin())
        except Mismatch as error:
            remedy = "to download it again" if self.file.urls else f"and get it again: {self._instructions()}"
            raise UserError(f"{self.path} does not have the expected content ({error}); delete it {remedy}") from error
        except OSError as error:
            raise UserError(f"cannot read {self.path} ({error.strerror}); make it readable") from error

    def _download(self) -> None:
        _check_space([self])
        entry = recorded(self.key)
        reasons = []
        for pattern in self.file.urls:
            url = pattern.replace("{revision}", (entry and entry.revision) or "main")
            try:
                return self._download_from(url)
            except (Unavailable, Mismatch) as error:
                reasons.append(f"{url}: {error}")
        raise UserError(f"cannot download {self.key} ({'; '.join(reasons)}); manually: {self._instructions()}")

    def _download_from(self, url: str) -> None:
        part = _part_of(self.path)
        for _ in range(2):
            with shown(self.key, self.file.approx_bytes, console=self.console, in_bytes=True) as report:
                origin = Transfer(url, part, self.expected, lambda have, whole: report(have, total=whole)).run()
            try:
                self._accept(part, origin)
            except Mismatch as error:  # damaged, or a part of another file: start again
                mismatch = error
                discard(part)
            else:
                part.replace(self.path)
                return discard(part)
        raise mismatch

    def _accept(self, path: Path, origin: Origin) -> None:
        """Verify the file at `path`, and record it if it is the first download."""
        found = self.expected.check(path)
        if origin.url:
            self.remember(found, origin)

    def remember(self, found: dict[str, str | int], origin: Origin) -> None:
        """Record the file if it is the first download and no sha256 is published."""
        if not self.file.sha256 and not recorded(self.key):
            url, revision = origin.url, origin.revision
            record(self.key, Record(sha256=found["sha256"], size=found["size"], url=url, revision=revision))

    def _instructions(self) -> str:
        sums = [f"its {name} must be {value}" for name, value in self.expected.checksums.items()]
        where = f"{self.file.manual.rstrip('.')}; " if self.file.manual else ""
        return f"{where}put it at {self.path} ({', '.join(sums) or 'its sha256 is recorded at first use'})"

    @property
    def missing(self) -> int:
        """Approximate number of bytes to download."""
        if self.path.is_file():
            return 0
        return max(0, (self.expected.size or self.file.approx_bytes or 0) - bytes_in(_part_of(self.path)))


def _check_space(downloads: list[_Download]) -> None:
    """Check that the disk has space for the rest of all downloads."""
    needed = sum(download.missing for download in downloads)
    place = next((folder for folder in (downloads_folder(), *downloads_folder().parents) if folder.exists()), Path())
    free = shutil.disk_usage(place).free
    if needed > free:
        what = downloads[0].key if len(downloads) == 1 else f"all of {downloads[0].owner}"
        raise UserError(
            f"{what} needs {decimal(needed)}, but {downloads_folder()} has only {decimal(free)} left; free space, or "
            "set NTKCL_DOWNLOADS to a folder with more"
        )
