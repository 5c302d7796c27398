"""Gradients of outputs by parameters, for as many inputs at a time as fit in memory, and their inner products.

If a weight W acts as W h on one row h per input, the gradient by W is the outer product of delta (the gradient by W h)
and h. The inner product of two such gradients is (delta . delta')(h . h'). So only delta and h are stored, which are
much smaller than W. The gradients by all other parameters are stored completely.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor
from torch.func import vjp, vmap

from ntkcl.ntk.functions import Outputs, Parameters, math_attention
from ntkcl.ntk.structure import Linears, Structure

TENSORS_PER_PASS = 4  # temporary tensors of a pass, each as large as the largest; tensors kept for backward come on top


@dataclass(frozen=True)
class Rows:
    """Gradients of the C outputs at B inputs.

    Args:
        written: (B, C, P), gradients by all ordinary parameters, concatenated.
        direct: delta (B, C, outputs) and h (B, inputs) for each direct parameter.
    """

    written: Tensor
    direct: list[tuple[Tensor, Tensor]]

    def __len__(self) -> int:
        return len(self.written)

    def tensors(self) -> list[Tensor]:
        """Return all tensors."""
        return [self.written, *(tensor for pair in self.direct for tensor in pair)]

    def allocate(self, count: int) -> "Rows":
        """Allocate rows for `count` inputs."""
        direct = [tuple(x.new_empty(count, *x.shape[1:]) for x in pair) for pair in self.direct]
        return Rows(self.written.new_empty(count, *self.written.shape[1:]), direct)

    def put(self, first: int, rows: "Rows") -> None:
        """Copy `rows` to the inputs from `first` on."""
        for own, new in zip(self.tensors(), rows.tensors(), strict=True):
            own[first : first + len(rows)] = new

    def __getitem__(self, inputs: slice) -> "Rows":
        """Return the gradients at some of the inputs."""
        return Rows(self.written[inputs], [(deltas[inputs], rows[inputs]) for deltas, rows in self.direct])


@dataclass(frozen=True)
class Plan:
    """Size of a pass.

    Args:
        step: number of inputs of a pass.
        outputs: number of outputs that one backward pass covers.
        taken: bytes of a pass, including its gradients.
    """

    step: int
    outputs: int
    taken: int


def plan(structure: Structure, memory: int) -> Plan:
    """Plan passes that need at most half of `memory` bytes; the minimum is one input and one output at a time.

    For each input, a pass needs what the forward pass keeps, a few tensors for it and for each output of a backward
    pass, and the gradients twice, since they are concatenated.
    """
    passing = TENSORS_PER_PASS * structure.largest
    fixed = structure.kept + passing + 2 * structure.row_bytes()
    outputs = min(max(1, (memory // 2 - fixed) // passing), structure.classes)
    of_one = fixed + outputs * passing
    step = max(1, memory // 2 // of_one)
    return Plan(step, outputs, step * of_one)


def block_size(memory: int, structure: Structure, *plans: Plan) -> int:
    """Return for how many inputs gradients can be stored in addition to any of the passes; at least one."""
    return max(1, (memory - max(plan.taken for plan in plans)) // max(1, structure.row_bytes()))


def rows_of(parameters: Parameters, outputs: Outputs, structure: Structure, at_once: int) -> Rows:
    """Compute the gradients at all inputs in one pass, with `at_once` outputs in one backward pass."""
    ordinary = {name: parameters[name] for name in structure.ordinary}
    like = dict(dtype=structure.dtype, device=outputs.inputs[0].device)
    zeros = {name: torch.zeros(out, **like) for name, (out, _) in structure.direct.items()}
    ones = torch.eye(structure.classes, **like)

    def of_one(*inputs: Tensor) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        def function(ordinary: Parameters, zeros: Parameters) -> tuple[Tensor, Parameters]:
            direct = {name: parameters[name].detach() for name in structure.direct}
            with Linears(direct, zeros) as linears:
                values = outputs.function(parameters | ordinary | direct, tuple(x[None] for x in inputs))
            return values[0], {name: linears.rows[name][0] for name in direct}

        _, backward, rows = vjp(function, ordinary, zeros, has_aux=True)
        gradients, deltas = vmap(backward, chunk_size=at_once)(ones)
        written = [gradients[name].flatten(1) for name in ordinary]
        written = torch.cat(written, 1) if written else ones[:, :0]
        return written, [(deltas[name], rows[name]) for name in zeros]

    with math_attention(), torch.no_grad():
        return Rows(*vmap(of_one)(*outputs.inputs))


def gathered(passes: Iterator[Rows], count: int) -> Rows:
    """Join the rows of several passes, of `count` inputs together."""
    first = next(passes)
    if len(first) == count:
        return first
    whole, done = first.allocate(count), 0
    for rows in chain([first], passes):
        whole.put(done, rows)
        done += len(rows)
    return whole


def inner_products(left: Rows, right: Rows, summed: bool) -> Tensor:
    """Inner products of all gradients, (N, C, N', C'), or (N, N') if they are summed over equal outputs."""
    dims = ([1, 2], [1, 2]) if summed else ([2], [2])
    result = torch.tensordot(left.written, right.written, dims)
    for (deltas, rows), (others, other_rows) in zip(left.direct, right.direct, strict=True):
        of_rows = rows @ other_rows.T
        result += torch.tensordot(deltas, others, dims) * (of_rows if summed else of_rows[:, None, :, None])
    return result
