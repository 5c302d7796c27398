"""Kernel-vector products K v = J (J^T v), which need no Jacobian, and the kernel computed from them."""

import torch
from torch import Tensor
from torch.func import jvp, vjp

from ntkcl.ntk.blocks import empty_kernel, pieces, put, transposed
from ntkcl.ntk.functions import Outputs, Parameters, detached, math_attention
from ntkcl.ntk.jacobian import TENSORS_PER_PASS
from ntkcl.ntk.progress import Progress, counted
from ntkcl.ntk.structure import Structure, structure_of


def kernel_product(
    parameters: Parameters, left: Outputs, right: Outputs | None, vector: Tensor, *, memory: int = 1 << 30
) -> Tensor:
    """Multiply the kernel with `vector`: (K v)[x, c] = sum over x' and c' of K[x, c, x', c'] v[x', c'].

    This takes one backward pass over `right` and one forward-mode pass over `left`.

    Args:
        parameters: parameters by name.
        left: outputs at the left inputs.
        right: outputs at the right inputs; by default `left`.
        vector: (N', C').
        memory: memory budget of a pass in bytes, excluding two vectors as long as the parameters. The minimum is one
            input at a time.

    Returns:
        (N, C).
    """
    parameters, right = detached(parameters), right or left
    steps = [step_of(structure_of(parameters, outputs), memory) for outputs in (left, right)]
    return jvp_in_chunks(parameters, left, vjp_in_chunks(parameters, right, vector, steps[1]), steps[0])


def step_of(structure: Structure, memory: int) -> int:
    """Return the number of inputs of a pass, by what it keeps for the backward pass and a few more tensors."""
    return max(1, memory // (structure.kept + 2 * TENSORS_PER_PASS * structure.largest))


def vjp_in_chunks(parameters: Parameters, outputs: Outputs, vector: Tensor, step: int) -> Parameters:
    """Compute J^T v, the gradient of <outputs, vector> by the parameters, `step` inputs at a time."""
    total = {name: torch.zeros_like(values) for name, values in parameters.items()}
    with torch.no_grad():
        for piece in pieces(0, len(outputs), step):
            _, backward = vjp(outputs[piece].at, parameters)
            for name, gradient in backward(vector[piece])[0].items():
                total[name] += gradient
    return total


def jvp_in_chunks(parameters: Parameters, outputs: Outputs, direction: Parameters, step: int) -> Tensor:
    """Compute J u, the derivative (N, C) of the outputs along `direction`, `step` inputs at a time."""
    with torch.no_grad(), math_attention():
        parts = [jvp(outputs[piece].at, (parameters,), (direction,))[1] for piece in pieces(0, len(outputs), step)]
    return torch.cat(parts)


def kernel_by_matvec(
    parameters: Parameters,
    left: Outputs,
    right: Outputs | None,
    structures: tuple[Structure, Structure],
    summed: bool,
    memory: int,
    progress: Progress,
) -> Tensor:
    """Like `kernel`, column by column; with `summed`, only one entry per input of each column is used."""
    symmetric, right = right is None, right or left
    if not symmetric and len(left) * structures[0].classes < len(right) * structures[1].classes:
        return transposed(kernel_by_matvec(parameters, right, left, structures[::-1], summed, memory, progress))
    result = empty_kernel((left, structures[0]), (right, structures[1]), summed)
    with counted(progress, len(right)) as done:
        for number in range(len(right)):
            rows, column = slice(number if symmetric else 0, len(left)), slice(number, number + 1)
            columns = _columns(parameters, left[rows], right[column], structures, memory)
            values = columns.diagonal(dim1=1, dim2=3).sum(2) if summed else columns
            put(result, rows, column, values, mirrored=symmetric)
            done(1)
    return result


def _columns(
    parameters: Parameters, left: Outputs, right: Outputs, structures: tuple[Structure, Structure], memory: int
) -> Tensor:
    """Compute the columns (N, C, 1, C') of one input."""
    step, parts = step_of(structures[0], memory), []
    for vector in torch.eye(structures[1].classes, dtype=structures[1].dtype, device=right.inputs[0].device):
        parts.append(jvp_in_chunks(parameters, left, vjp_in_chunks(parameters, right, vector[None], 1), step))
    return torch.stack(parts, 2)[:, :, None]
