"""Provenance of results: device, versions, lock file, commit, code."""

import hashlib
import platform
import subprocess
import sys
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("ntkcl", "torch", "timm", "numpy")
CODE = Path(__file__).resolve().parents[1]  # the package


def provenance(device: str, precision: str) -> dict:
    """Return what is recorded with each result: device name, Python and package versions, lock file, commit.

    Args:
        device: a torch device type, "cpu" or "cuda".
        precision: precision of the backbone; added to the device name unless it is "float32".
    """
    versions = {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}
    name = device_name(device) if precision == "float32" else f"{device_name(device)} in {precision}"
    return {"device": name, "versions": versions, "lock": lock_digest(), "commit": commit()}


def lock_digest() -> str | None:
    """Name the lock file that this environment was installed from, by its sha256; None if there was none."""
    path = Path(sys.prefix) / "requirements.lock"  # `make install` puts it there
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12] if path.is_file() else None


def code_digest() -> str:
    """Name the running code, committed or not, by the sha256 of the package's Python files."""
    return _code_digest(CODE)


@cache  # a process runs the code that it has read, whatever is changed on the disk since
def _code_digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("[!.]*.py")):  # editors have files that begin with a dot
        with suppress(FileNotFoundError):  # deleted meanwhile
            digest.update(f"{path.relative_to(folder)} ".encode() + path.read_bytes())
    return digest.hexdigest()


def device_name(device: str) -> str:
    """Return the name of the processor or the GPU."""
    if device == "cuda":
        import torch

        return torch.cuda.get_device_name()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            return f"CPU ({line.partition(':')[2].strip()})"
    return f"CPU ({platform.machine()})"


def commit() -> str:
    """Return the commit of the running code, with '+' if it has uncommitted changes; 'unknown' outside a checkout.

    A repository around a copy of the code, such as one that contains a virtual environment, does not count.
    """
    return _commit(CODE)


@cache
def _commit(folder: Path) -> str:
    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "--", str(folder / "storage/provenance.py"))
        changed = git("status", "--porcelain", "--", str(folder))
        return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
