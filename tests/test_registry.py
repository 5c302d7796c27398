"""Methods, sources and figures are found by the names of their files."""

from pathlib import Path

import pytest

import ntkcl
from ntkcl.errors import UserError
from ntkcl.methods.learner import Learner
from ntkcl.registry import FIGURES, METHODS, SOURCES


@pytest.mark.parametrize("registry", [METHODS, SOURCES, FIGURES], ids=lambda registry: registry.kind)
def test_every_file_of_the_folder_provides_an_entry_or_is_a_helper(registry):
    names = registry.names()
    assert names and all(registry.load(name) for name in names)
    folder = Path(ntkcl.__file__).parent / registry.folder
    assert all((folder / f"{helper}.py").exists() or (folder / helper).is_dir() for helper in registry.helpers)


def test_a_method_is_a_file_or_a_folder():
    assert {"ntk_cl", "simplecil"} <= set(METHODS.names())
    assert all(issubclass(METHODS.load(name), Learner) for name in METHODS.names())


def test_an_unknown_name_gets_the_nearest_one():
    with pytest.raises(UserError, match=r"unknown learner 'ntkcl' \(not in ntkcl/methods/\); did you mean 'ntk_cl'\?"):
        METHODS.load("ntkcl")
    with pytest.raises(UserError, match="unknown source 'common'"):  # a folder of helpers
        SOURCES.load("common")
