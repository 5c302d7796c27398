"""Dependence of outputs on each parameter, and memory of a pass, from the shapes of one input."""

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
    """Dependence of outputs on parameters.

    Args:
        classes: number of outputs C.
        direct: parameters that are used only as the weight of one `F.linear` on one row per input, with the numbers of
            its outputs and inputs.
        ordinary: all other parameters that the outputs depend on, with their numbers of elements.
        dtype: type of the outputs.
        kept: bytes that the forward pass of one input keeps for the backward pass.
        largest: bytes of the largest tensor of the forward pass.
    """

    classes: int
    direct: dict[str, tuple[int, int]]
    ordinary: dict[str, int]
    dtype: torch.dtype
    kept: int
    largest: int

    def row_bytes(self) -> int:
        """Bytes of the gradients of one input's C outputs."""
        direct = sum(self.classes * out + inside for out, inside in self.direct.values())
        return self.dtype.itemsize * (self.classes * sum(self.ordinary.values()) + direct)


class Linears(TorchFunctionMode):
    """Mode in which weights that `F.linear` applies to a single row have no gradient: a zero added to the output does.

    If h is the row and delta the gradient of the zero, the gradient of the weight is the outer product of delta and h.

    Args:
        weights: weights by name, recognized by identity.
        zeros: a zero vector for each weight, as long as its outputs; created if missing.
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


class TensorSizes(TorchDispatchMode):
    """Mode that records the sizes of new tensors (no views, no changes in place).

    Attributes:
        largest: bytes of the largest tensor.
        kept: bytes of the tensors that are kept for the backward pass, by storage; parameters and inputs do not count.
    """

    def __init__(self) -> None:
        super().__init__()
        self.storages: set[int] = set()
        self.kept: dict[int, int] = {}
        self.largest = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        """See `TorchDispatchMode`."""
        results = function(*args, **(kwargs or {}))
        known = {_storage(value) for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)}
        for value in tree_leaves(results):
            if isinstance(value, Tensor) and _storage(value) not in known:
                self.storages.add(_storage(value))
                self.largest = max(self.largest, value.untyped_storage().nbytes())
        return results

    def keep(self, value: Tensor) -> Tensor:
        """Hook for tensors that are saved for the backward pass. Detaches them, or the graph would contain itself."""
        if _storage(value) in self.storages:
            self.kept[_storage(value)] = value.untyped_storage().nbytes()
        return value.detach()


def structure_of(parameters: Parameters, outputs: Outputs) -> Structure:
    """Determine how `outputs` depend on `parameters`, with the shapes of the first input: no values are computed.

    Raises:
        ValueError: the function does not map B rows to outputs (B, C).
    """
    shapes = FakeTensorMode(allow_non_fake_inputs=True)
    leaves = {name: shapes.from_tensor(values).requires_grad_() for name, values in detached(parameters).items()}
    inputs = tuple(shapes.from_tensor(values) for values in outputs[:1].inputs)
    sizes, linears = TensorSizes(), Linears(leaves)
    hooks = saved_tensors_hooks(sizes.keep, lambda value: value)
    with torch.enable_grad(), math_attention(), hooks, shapes, sizes, linears:
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
    return Structure(values.shape[1], direct, ordinary, values.dtype, sum(sizes.kept.values()), sizes.largest)


def structures_of(
    parameters: Parameters, left: Outputs, right: Outputs | None, summed: bool
) -> tuple[Structure, Structure]:
    """Return the structures of both sides, with the parameters that both depend on.

    Raises:
        ValueError: as for `structure_of`; or the kernel is summed over outputs, and their numbers differ.
    """
    first = structure_of(parameters, left)
    second = first if right is None else structure_of(parameters, right)
    if summed and first.classes != second.classes:
        raise ValueError(f"no sum over classes: {first.classes} outputs on the left, {second.classes} on the right")
    return joined(first, second)


def joined(left: Structure, right: Structure) -> tuple[Structure, Structure]:
    """Restrict both structures to their common parameters; a parameter is direct if it is direct in both."""
    both = (left.direct.keys() | left.ordinary.keys()) & (right.direct.keys() | right.ordinary.keys())
    direct = {name: shape for name, shape in left.direct.items() if name in both and name in right.direct}
    sizes = {name: math.prod(shape) for s in (left, right) for name, shape in s.direct.items()}
    sizes |= left.ordinary | right.ordinary
    ordinary = {name: sizes[name] for name in sorted(both - direct.keys())}
    return tuple(Structure(s.classes, direct, ordinary, s.dtype, s.kept, s.largest) for s in (left, right))


def _leaves_behind(values: Tensor) -> set[int]:
    """Return the ids of the leaves that `values` were computed from."""
    waiting, visited, found = [values.grad_fn], set(), set()
    while waiting:
        node = waiting.pop()
        if node is None or node in visited:
            continue
        visited.add(node)
        if hasattr(node, "variable"):
            found.add(id(node.variable))
        waiting += [following for following, _ in node.next_functions]
    return found


def _storage(value: Tensor) -> int:
    return value.untyped_storage()._cdata
