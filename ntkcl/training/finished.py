"""The files of a finished task under second names, from which a job that runs once more takes them.

Snakemake deletes the outputs of a job that it takes for failed, also if it ended well: past its time limit, while its
node was out of reach, or in a group with a job that failed. The second names are hard links: they need space only
once the first ones are deleted.
"""

import contextlib
import os
import sys
from pathlib import Path
from typing import Any

from ntkcl.errors import UserError
from ntkcl.storage.files import read_json, sha256_of, write_sealed_json
from ntkcl.training.state import next_task_path

FOLDER = ".finished"


class FinishedTask:
    """The second names of a task's files, in a folder of their own beside them.

    Args:
        folder: of the task.
        about: what the files depend on; files of anything else are not taken.
    """

    def __init__(self, folder: Path, about: dict[str, Any]) -> None:
        self.folder, self.about = folder, about
        self.links, self.record = folder / FOLDER, folder / FOLDER / "about.json"

    def keep(self, *paths: Path) -> None:
        """Give the files second names. Where the file system has no hard links, nothing is kept."""
        with contextlib.suppress(OSError, UserError):  # a full disk, too
            self.links.mkdir(exist_ok=True)
            for old in self.links.iterdir():
                old.unlink()
            for path in paths:
                os.link(path, self.links / path.name)
            write_sealed_json(
                self.record, {"about": self.about, "files": {path.name: sha256_of(path) for path in paths}}
            )

    def restore(self, state: Path) -> bool:
        """If the state was deleted since, give the files their names back, and return whether they have them.

        What only the next task reads may be missing, since that task deletes it.
        """
        if state.exists() or not self.record.exists():
            return False
        with contextlib.suppress(UserError, KeyError, OSError):
            record = read_json(self.record)
            links = {self.links / name: digest for name, digest in record["files"].items()}
            present = {link: digest for link, digest in links.items() if link.exists()}
            optional = next_task_path(self.links / state.name)
            is_whole = not links.keys() - present.keys() - {optional} and all(
                sha256_of(link) == sha for link, sha in present.items()
            )
            if record["about"] != self.about or not is_whole:
                return False
            for link in sorted(present, key=lambda link: link.name == state.name):  # the state last: it says "finished"
                path = self.folder / link.name
                path.unlink(missing_ok=True)
                os.link(link, path)
                os.utime(path)  # or Snakemake would find it older than its inputs
            print(f"{state} was finished before; its files have their names again", file=sys.stderr, flush=True)
            return True
        return False

    def forget(self, path: Path) -> None:
        """Delete the second name of one of the files."""
        (self.links / path.name).unlink(missing_ok=True)
