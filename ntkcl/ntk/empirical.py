"""The empirical neural tangent kernel: inner products of the gradients that outputs have by the parameters."""

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
    """K(x, x') = J(x) J(x')^T, where J(x) (C, P) has the gradients of the outputs at x by all parameters.

    Args:
        right: None: the same as `left`; half of the entries are then taken from the other half.
        summed: sum over classes c of <J_c(x), J_c(x')>, the trace of each C x C block.
        method: "jacobian" keeps gradients of as many inputs as fit in memory, and computes those of the others anew
            for each such block. "matvec" keeps none, and takes a pass over all of `left` for every input and output
            of `right` (or the other way round, where that is less).
        memory: bytes that it may hold besides parameters, inputs and result, counted in tensors: what the forward pass
            of one input keeps was looked at, what a backward pass holds for a while is estimated from the largest
            tensor. A pass of a single input, one output at a time, and its gradients are the least that it takes.
        progress: True shows a bar on terminals; or it is called with what is done and the whole.

    Returns:
        (N, C, N', C'), or (N, N') if summed, in the outputs' type. `.flatten(2).flatten(0, 1)` makes the former a
        matrix, with the outputs of one input next to each other.

    Raises:
        ValueError: a kernel of different numbers of outputs cannot be summed; a function is not as `Outputs` wants; or
            the method is unknown.
    """
    parameters = detached(parameters)
    if method not in ("jacobian", "matvec"):
        raise ValueError(f"the method is jacobian or products, not '{method}'")
    structures = structures_of(parameters, left, right, summed)
    if method == "matvec":
        return kernel_by_matvec(parameters, left, right, structures, summed, memory, progress)
    return kernel_by_jacobians(parameters, left, right, structures, summed, memory, progress)


def blocks(kernel: Tensor, sizes: list[int], right_sizes: list[int] | None = None) -> list[list[Tensor]]:
    """The blocks of a kernel between tasks: views, of which [i][j] belongs to task i on the left and j on the right.

    Args:
        kernel: (N, C, N', C') or (N, N'); or, with the outputs counted as inputs, (N C, N' C').
        sizes: how many inputs of the left belong to each task, in their order; they add up to N.
        right_sizes: the same of the right; None: as on the left.

    Raises:
        RuntimeError: sizes do not add up.
    """
    across = kernel.ndim // 2
    return [list(rows.split(right_sizes or sizes, dim=across)) for rows in kernel.split(sizes, dim=0)]
