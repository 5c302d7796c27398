"""Foreign bytes end in a result or in one line: no traceback, no hang, no gigabyte. `benchmarks/fuzz.py` tries more."""

import os
from pathlib import Path

import pytest

from benchmarks.fuzz import fuzz
from tests.helpers.foreign_bytes import readers


@pytest.fixture(scope="module")
def all_readers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    before = Path.cwd()
    os.chdir(folder)
    yield readers(folder)
    os.chdir(before)


def test_a_few_damaged_files_of_every_kind(all_readers):
    for name, reader in all_readers.items():
        assert fuzz(name, reader, 40, seed=1).inputs >= 40
