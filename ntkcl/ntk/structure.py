"""How outputs depend on each parameter, and what memory that takes: found in one pass over one input."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ntkcl.ntk.functions import Outputs, Parameters, detached, math_attention


@dataclass(frozen=True)
class Structure:
    """How outputs depend on parameters.

    Args:
        classes: C.
        direct: parameters that are the weight of one `F.linear` on one row per input, and nothing else; with the
            numbers of its outputs and inputs.
        ordinary: all others that the outputs depend on; with their numbers of elements.
        dtype: of the outputs.
        kept: bytes that the forward pass of one input keeps for the backward pass.
        largest: bytes of the largest tensor that it makes.
    """

    classes: int
    direct: dict[str, tuple[int, int]]
    ordinary: dict[str, int]
    dtype: torch.dtype
    kept: int
    largest: int

    def row_bytes(self) -> int:
        """Bytes that the gradients of one input's C outputs take."""
        direct = sum(self.classes * out + inside for out, inside in self.direct.values())
        return self.dtype.itemsize * (self.classes * sum(self.ordinary.values()) + direct)


class Linears(TorchFunctionMode):
    """Within it, weights that `F.linear` uses on a single row get no gradient: a zero added to the output does instead.

    With h the row and delta the gradient of the zero, the gradient of the weight is the outer product of delta and h.

    Args:
        weights: by name, recognized by identity.
        zeros: one for each weight, as long as its outputs; made where missing.
    """

    def __init__(self, weights: Parameters, zeros: Parameters | None = None) -> None:
        super().__init__()
        self.names = {id(weight): name for name, weight in weights.items()}
        self.zeros = {} if zeros is None else zeros
        self.rows: dict[str, list[Tensor]] = {}

    def __torch_function__(self, function, types, args=(), kwargs=None):
        """See `TorchFunctionMode`."""
        if function is not F.linear:
            return function(*args, **(kwargs or {}))
        return self._linear(*args, **(kwargs or {}))

    def _linear(self, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        name = self.names.get(id(weight))
        if name is None or weight.ndim != 2 or input.numel() != weight.shape[1]:
            return F.linear(input, weight, bias)
        self.rows.setdefault(name, []).append(input.flatten())
        out = F.linear(input, weight.detach(), bias)
        zero = self.zeros.get(name)
        if zero is None:
            zero = self.zeros[name] = out.new_zeros(out.numel(), requires_grad=True)
        return out + zero.view(out.shape)


class Made(TorchDispatchMode):
    """Within it, the sizes of the tensors that operations make (not views, not changes in place) are looked at.

    Args:
        largest: bytes of the largest.
        kept: bytes of those that are kept for the backward pass, by place; parameters and the like are none of them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.places: set[int] = set()
        self.kept: dict[int, int] = {}
        self.largest = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        """See `TorchDispatchMode`."""
        made = function(*args, **(kwargs or {}))
        known = {_place(value) for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)}
        for value in tree_leaves(made):
            if isinstance(value, Tensor) and _place(value) not in known:
                self.places.add(_place(value))
                self.largest = max(self.largest, value.untyped_storage().nbytes())
        return made

    def keep(self, value: Tensor) -> Tensor:
        """A hook for tensors that are saved for the backward pass; detached, or the graph would hold itself."""
        if _place(value) in self.places:
            self.kept[_place(value)] = value.untyped_storage().nbytes()
        return value.detach()


def structure_of(parameters: Parameters, outputs: Outputs) -> Structure:
    """Find out how `outputs` depend on `parameters`, with the shapes of the first input: nothing is computed.

    Raises:
        ValueError: the function does not give outputs (B, C) for B rows.
    """
    shapes = FakeTensorMode(allow_non_fake_inputs=True)
    leaves = {name: shapes.from_tensor(values).requires_grad_() for name, values in detached(parameters).items()}
    inputs = tuple(shapes.from_tensor(values) for values in outputs[:1].inputs)
    made, linears = Made(), Linears(leaves)
    hooks = saved_tensors_hooks(made.keep, lambda value: value)
    with torch.enable_grad(), math_attention(), hooks, shapes, made, linears:
        values = outputs.function(leaves, inputs)
    if values.ndim != 2 or len(values) != 1:
        raise ValueError(f"the function gives outputs of shape {tuple(values.shape)} for one input, not (1, C)")
    reached = _leaves_behind(values)
    ordinary, direct = {}, {}
    for name, leaf in leaves.items():
        zero = linears.zeros.get(name)
        through_linear = zero is not None and id(zero) in reached
        if id(leaf) in reached or (through_linear and len(linears.rows[name]) > 1):
            ordinary[name] = leaf.numel()
        elif through_linear:
            direct[name] = tuple(leaf.shape)
    return Structure(values.shape[1], direct, ordinary, values.dtype, sum(made.kept.values()), made.largest)


def structures_of(
    parameters: Parameters, left: Outputs, right: Outputs | None, summed: bool
) -> tuple[Structure, Structure]:
    """The structures of both sides, with the parameters that both depend on.

    Raises:
        ValueError: as `structure_of`; or they are to be summed over classes and differ in their number.
    """
    first = structure_of(parameters, left)
    second = first if right is None else structure_of(parameters, right)
    if summed and first.classes != second.classes:
        raise ValueError(f"no sum over classes: {first.classes} outputs on the left, {second.classes} on the right")
    return joined(first, second)


def joined(left: Structure, right: Structure) -> tuple[Structure, Structure]:
    """Both with the parameters that both depend on, each in the same way: direct if it is so in both."""
    both = (left.direct.keys() | left.ordinary.keys()) & (right.direct.keys() | right.ordinary.keys())
    direct = {name: shape for name, shape in left.direct.items() if name in both and name in right.direct}
    sizes = {name: math.prod(shape) for s in (left, right) for name, shape in s.direct.items()}
    sizes |= left.ordinary | right.ordinary
    ordinary = {name: sizes[name] for name in sorted(both - direct.keys())}
    return tuple(Structure(s.classes, direct, ordinary, s.dtype, s.kept, s.largest) for s in (left, right))


def _leaves_behind(values: Tensor) -> set[int]:
    """Ids of the leaves that `values` were computed from."""
    waiting, seen, found = [values.grad_fn], set(), set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.add(id(node.variable))
        waiting += [following for following, _ in node.next_functions]
    return found


def _place(value: Tensor) -> int:
    return value.untyped_storage()._cdata
