"""Fetching files (being written)."""

from pathlib import Path

from ntkcl.settings import File


def fetch(owner: str, files: dict[str, File]) -> dict[str, Path]:
    raise NotImplementedError
