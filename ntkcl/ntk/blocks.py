"""Parts of kernels (N, C, N', C') or (N, N'); the left inputs are in the first half of the dimensions."""

import torch
from torch import Tensor

from ntkcl.ntk.functions import Outputs
from ntkcl.ntk.structure import Structure


def pieces(first: int, stop: int, size: int) -> list[slice]:
    """Divide the range from `first` to `stop` into slices of `size`."""
    return [slice(start, min(start + size, stop)) for start in range(first, stop, size)]


def empty_kernel(left: tuple[Outputs, Structure], right: tuple[Outputs, Structure], summed: bool) -> Tensor:
    """Allocate a kernel."""
    shape = [(len(outputs),) if summed else (len(outputs), structure.classes) for outputs, structure in (left, right)]
    dtype = torch.promote_types(left[1].dtype, right[1].dtype)
    return torch.empty(*shape[0], *shape[1], dtype=dtype, device=left[0].inputs[0].device)


def transposed(kernel: Tensor) -> Tensor:
    """Exchange left and right: K(x', x)."""
    half = kernel.ndim // 2
    return kernel.permute(*range(half, 2 * half), *range(half))


def put(kernel: Tensor, left: slice, right: slice, values: Tensor, mirrored: bool) -> None:
    """Write the entries of some inputs; with `mirrored`, also the entries with both sides exchanged."""
    between = (slice(None),) * (kernel.ndim // 2 - 1)
    kernel[(left, *between, right)] = values
    if mirrored:
        kernel[(right, *between, left)] = transposed(values)
