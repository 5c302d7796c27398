"""NTK-CL and the methods it is compared with: continual learning with frozen pre-trained models."""

from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = ["Classifier"]

if TYPE_CHECKING:
    from ntkcl.classifier import Classifier


def __getattr__(name: str) -> object:
    """Import `Classifier` when it is used: it needs torch and timm, which take seconds to import."""
    if name == "Classifier":
        from ntkcl.classifier import Classifier

        return Classifier
    raise AttributeError(f"module 'ntkcl' has no attribute '{name}'")
