"""The learners. A new method is one file here, one line in `LEARNERS` and one YAML in `params/methods/`."""

from importlib import import_module

from ntkcl.errors import UserError, nearest
from ntkcl.methods.learner import Learner

LEARNERS = {
    "ntk_cl": "NTKCL",
    "simplecil": "SimpleCIL",
    "adapter_finetuning": "AdapterFineTuning",
}


def learner_class(name: str) -> type[Learner]:
    """The learner called `name`, which is also the name of its module.

    Raises:
        UserError: there is none.
    """
    if name not in LEARNERS:
        raise UserError(f"unknown learner '{name}' (in ntkcl/methods/__init__.py); {nearest(name, LEARNERS)}")
    return getattr(import_module(f"ntkcl.methods.{name}"), LEARNERS[name])
