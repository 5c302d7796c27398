"""NTK-CL and its rivals under one protocol: continual learning with frozen pre-trained models."""

from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = ["Classifier"]

if TYPE_CHECKING:
    from ntkcl.classifier import Classifier


def __getattr__(name: str) -> object:
    """`Classifier` needs torch and timm, which take seconds to import: not before it is asked for."""
    if name == "Classifier":
        from ntkcl.classifier import Classifier

        return Classifier
    raise AttributeError(f"module 'ntkcl' has no attribute '{name}'")
