"""Methods, their replays, sources and figures: each is a module (or package) of its folder, found by its name.

To add one, add a file. Nothing has to list it.
"""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from ntkcl.errors import UserError, nearest


@dataclass(frozen=True)
class Registry:
    """The entries of one folder of this package.

    Args:
        folder: path below `ntkcl/`, such as "data/sources".
        attribute: name of the object that every entry's module provides.
        kind: name of an entry in messages.
        helpers: modules of the folder that are not entries.
    """

    folder: str
    attribute: str
    kind: str
    helpers: frozenset[str]

    def names(self) -> list[str]:
        """Return the sorted names of all entries, without importing them."""
        paths = (Path(__file__).parent / self.folder).iterdir()
        modules = {path.stem for path in paths if path.suffix == ".py" or (path / "__init__.py").is_file()}
        return sorted(modules - self.helpers - {"__init__"})

    def load(self, name: str) -> Any:
        """Import the entry `name` and return its object.

        Raises:
            UserError: there is no such entry.
        """
        if name not in (names := self.names()):
            raise UserError(f"unknown {self.kind} '{name}' (not in ntkcl/{self.folder}/); {nearest(name, names)}")
        module = import_module(f"ntkcl.{self.folder.replace('/', '.')}.{name}")
        return getattr(module, self.attribute)


METHODS = Registry("methods", "LEARNER", "learner", frozenset({"learner", "first_task", "prompt_pool"}))
SOURCES = Registry("data/sources", "SOURCE", "source", frozenset({"common"}))
REPLAYS = Registry(
    "verification", "REPLAY", "replay", frozenset({"ntk_cl", "replay", "results", "trajectory", "verify"})
)
FIGURES = Registry("reporting/figures", "FIGURE", "figure", frozenset({"analysis_data", "figure", "render", "style"}))
