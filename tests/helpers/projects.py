"""Projects in temporary folders: with the shipped settings, or with the tiny study, and with the pipeline."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ntkcl import runs
from ntkcl.data.sources.common import options
from ntkcl.settings import files

REPOSITORY = Path(__file__).parents[2]
PIPELINE = ("Snakefile", "workflow", "profiles")
VERSIONED = (*PIPELINE, "dvc.yaml", ".dvc/config", ".dvc/.gitignore", ".dvcignore", ".gitignore")
ENVIRONMENT = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "WANDB_MODE": "offline"}


def clear_settings() -> None:
    """Forget the settings that were read: they are read once per process, and tests change the files."""
    for module in (files, options, runs):
        for function in vars(module).values():
            if hasattr(function, "cache_clear"):
                function.cache_clear()


@contextmanager
def working_in(folder: Path) -> Iterator[Path]:
    """Make a project the working directory, with its own settings."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        clear_settings()
        yield folder
    clear_settings()


def change(path: str | Path, old: str, new: str) -> None:
    """Replace a text in a file of settings."""
    text = Path(path).read_text(encoding="utf-8")
    assert old in text
    Path(path).write_text(text.replace(old, new), encoding="utf-8")
    clear_settings()


def copy_pipeline(folder: Path, parts: tuple[str, ...] = PIPELINE) -> None:
    """Copy the workflow into a project, as it is in the repository."""
    for part in parts:
        source, target = REPOSITORY / part, folder / part
        target.parent.mkdir(exist_ok=True)
        if source.is_symlink():
            target.symlink_to(source.readlink())
        elif source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copy(source, target)


def sh(folder: Path, *command: str, code: int = 0) -> str:
    """Run a command in a project; its output."""
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, text=True, stdout=-1, stderr=subprocess.STDOUT)
    assert done.returncode == code, f"{command} exited with {done.returncode}\n{done.stdout[-4000:]}"
    return done.stdout


def git(folder: Path, *arguments: str) -> str:
    """Run git in a project; its output."""
    name = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    return sh(folder, "git", *name, *arguments)


def new_project(folder: Path) -> Path:
    """A project with the real pipeline and the tiny study, in git."""
    shutil.copytree(REPOSITORY / "tests/tiny", folder)
    copy_pipeline(folder, VERSIONED)
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "project")
    return folder


def jobs_in_plan(output: str) -> dict[str, int]:
    """The number of jobs of each rule in a plan, without the targets."""
    table = output.partition("Job stats")[2].partition(" total ")[0]
    counts = {words.replace(" ", "_"): int(number) for words, number in re.findall(r"^ (.+?) +(\d+) *$", table, re.M)}
    return {rule: count for rule, count in counts.items() if rule not in ("all", "data", "backbones", "runs")}
