"""The empirical neural tangent kernel: inner products of the outputs' gradients by the parameters."""

from typing import Literal

from torch import Tensor

from ntkcl.ntk.contraction import kernel_by_jacobians
from ntkcl.ntk.functions import Outputs, Parameters, detached
from ntkcl.ntk.matvec import kernel_by_matvec
from ntkcl.ntk.progress import Progress
from ntkcl.ntk.structure import structures_of

GIB = 1 << 30


def kernel(
    parameters: Parameters,
    left: Outputs,
    right: Outputs | None = None,
    *,
    summed: bool = False,
    method: Literal["jacobian", "matvec"] = "jacobian",
    memory: int = GIB,
    progress: Progress = False,
) -> Tensor:
    """K(x, x') = J(x) J(x')^T, where J(x) (C, P) contains the gradients of the outputs at x by all parameters.

    Args:
        parameters: parameters by name.
        left: outputs at the left inputs.
        right: outputs at the right inputs; by default `left`, and half of the entries are copied from the other half.
        summed: sum over outputs c of <J_c(x), J_c(x')>, the trace of each C x C block.
        method: "jacobian" stores the gradients of as many inputs as fit in memory, and recomputes those of the other
            inputs for each such block. "matvec" stores none. It needs a pass over all of `left` for every input and
            output of `right` (or the reverse, if that is less).
        memory: memory budget in bytes, excluding parameters, inputs and result. Forward memory is derived from the
            shapes of one input, backward memory is estimated. The minimum is one input and one output at a time.
        progress: True shows a bar in terminals. A function is called with the amount done and the total.

    Returns:
        (N, C, N', C'), or (N, N') if summed, in the outputs' type. `.flatten(2).flatten(0, 1)` turns the former into a
        matrix, with the outputs of one input next to each other.

    Raises:
        ValueError: a kernel of different numbers of outputs cannot be summed, a function does not fit `Outputs`, or
            the method is unknown.
    """
    parameters = detached(parameters)
    if method not in ("jacobian", "matvec"):
        raise ValueError(f"the method is jacobian or matvec, not '{method}'")
    structures = structures_of(parameters, left, right, summed)
    if method == "matvec":
        return kernel_by_matvec(parameters, left, right, structures, summed, memory, progress)
    return kernel_by_jacobians(parameters, left, right, structures, summed, memory, progress)


def blocks(kernel: Tensor, sizes: list[int], right_sizes: list[int] | None = None) -> list[list[Tensor]]:
    """Divide a kernel into blocks of tasks: [i][j] is a view for task i on the left and task j on the right.

    Args:
        kernel: (N, C, N', C') or (N, N'); or (N C, N' C'), with the outputs counted as inputs.
        sizes: number of left inputs of each task, in order; their sum is N.
        right_sizes: number of right inputs of each task; by default `sizes`.

    Raises:
        RuntimeError: the sizes do not add up.
    """
    across = kernel.ndim // 2
    return [list(rows.split(right_sizes or sizes, dim=across)) for rows in kernel.split(sizes, dim=0)]
