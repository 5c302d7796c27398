"""Methods, sources and figures are found by the names of their files."""

import pytest

from ntkcl.errors import UserError
from ntkcl.methods.learner import Learner
from ntkcl.registry import FIGURES, METHODS, SOURCES


@pytest.mark.parametrize("registry", [METHODS, SOURCES, FIGURES], ids=lambda registry: registry.kind)
def test_every_file_of_the_folder_provides_an_entry_and_no_helper_is_one(registry):
    names = registry.names()
    assert names == sorted(names) and not registry.helpers & set(names)
    assert all(registry.load(name) for name in names)


def test_a_method_is_a_file_or_a_folder():
    assert {"ntk_cl", "simplecil"} <= set(METHODS.names())
    assert all(issubclass(METHODS.load(name), Learner) for name in METHODS.names())


def test_an_unknown_name_gets_the_nearest_one():
    with pytest.raises(UserError, match=r"unknown learner 'ntkcl' \(not in ntkcl/methods/\); did you mean 'ntk_cl'\?"):
        METHODS.load("ntkcl")
    with pytest.raises(UserError, match="unknown source 'common'"):  # a folder of helpers
        SOURCES.load("common")
