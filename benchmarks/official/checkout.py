"""What all drivers of official code share: importing from a checkout, and a turn in the form of their data loaders."""

import contextlib
import importlib
import io
import sys
import types
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

import timm
import timm.layers
import timm.models
import torch
from torch import Tensor, nn

from ntkcl.errors import UserError

if TYPE_CHECKING:
    from turns import Turn

STAND_INS = {  # modules of theirs that may not be installed: they use attributes of these alone
    "easydict": types.SimpleNamespace(EasyDict=types.SimpleNamespace),
    "ipdb": types.SimpleNamespace(),  # imported, not used
    "timm.models.layers": timm.layers,
    "timm.models.helpers": timm.models,
    "timm.models.registry": timm.models,
}


def use(checkout: Path, module: str, repository: str) -> None:
    """Make the modules of the checkout importable.

    Raises:
        UserError: there is no `module`.py in it.
    """
    if not (checkout / f"{module}.py").is_file():
        raise UserError(f"{checkout} has no {module}.py; give a checkout of github.com/{repository}")
    sys.path.insert(0, str(checkout.resolve()))
    sys.dont_write_bytecode = True  # the checkout stays as it is
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        for name, stand_in in STAND_INS.items():
            try:
                importlib.import_module(name)
            except ModuleNotFoundError:
                sys.modules[name] = stand_in


def of_depth(module: types.ModuleType, name: str, depth: int) -> contextlib.AbstractContextManager:
    """While it is open, class `name` of the module has `depth` blocks: they pass 12 as a constant."""
    theirs = getattr(module, name)
    return mock.patch.object(module, name, lambda **given: theirs(**given | {"depth": depth}))


@contextlib.contextmanager
def as_on_a_gpu(device: torch.device) -> Iterator[None]:
    """While it is open, prints are swallowed; on a CPU, moving tensors to a GPU and waiting for it do nothing."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        stack.enter_context(contextlib.redirect_stderr(io.StringIO()))  # progress bars
        if device.type == "cpu":
            stack.enter_context(mock.patch.object(Tensor, "cuda", lambda tensor, *_, **__: tensor.clone()))
            stack.enter_context(mock.patch.object(torch.cuda, "synchronize", lambda *_: None))
        yield


@torch.no_grad()
def copy_into(parameter: nn.Parameter, values: Tensor) -> None:
    """Give a parameter of theirs our values."""
    if parameter.shape != values.shape:
        raise UserError(f"theirs has a parameter of shape {tuple(parameter.shape)}, ours {tuple(values.shape)}")
    parameter.copy_(values)


class Loader:
    """A turn as a data loader of theirs.

    Args:
        turn: the turn.
        order: what an item is made of: i an index (which nobody reads), x images, y labels, t a task (nor this).
        labels_on_host: as their loaders have them.
    """

    def __init__(self, turn: "Turn", order: str, labels_on_host: bool = True) -> None:
        self.turn, self.order, self.labels_on_host = turn, order, labels_on_host

    def __len__(self) -> int:
        return len(self.turn)

    def __iter__(self) -> Iterator[tuple[Tensor | None, ...]]:
        for images, labels in self.turn:
            parts = {"x": images, "y": labels.cpu() if self.labels_on_host else labels}
            yield tuple(parts.get(name) for name in self.order)
