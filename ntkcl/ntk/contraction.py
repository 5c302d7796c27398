"""The exact kernel from Jacobians: those of a block of inputs are stored, the others are computed pass by pass."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from ntkcl.ntk.blocks import empty_kernel, pieces, put
from ntkcl.ntk.functions import Outputs, Parameters
from ntkcl.ntk.jacobian import Rows, block_size, gathered, inner_products, plan, rows_of
from ntkcl.ntk.progress import Progress, counted
from ntkcl.ntk.structure import Structure


@dataclass(frozen=True)
class Side:
    """One side of a kernel: outputs whose gradients are computed pass by pass.

    Args:
        step: number of inputs of a pass.
        at_once: number of outputs that one backward pass covers.
    """

    parameters: Parameters
    outputs: Outputs
    structure: Structure
    step: int
    at_once: int

    def passes(self, inputs: slice) -> Iterator[tuple[slice, Rows]]:
        """Yield the gradients at some of the inputs."""
        for piece in pieces(inputs.start, inputs.stop, self.step):
            yield piece, rows_of(self.parameters, self.outputs[piece], self.structure, self.at_once)

    def rows(self, inputs: slice) -> Rows:
        """Compute the gradients of `passes` together."""
        return gathered((rows for _, rows in self.passes(inputs)), inputs.stop - inputs.start)


def kernel_by_jacobians(
    parameters: Parameters,
    left: Outputs,
    right: Outputs | None,
    structures: tuple[Structure, Structure],
    summed: bool,
    memory: int,
    progress: Progress,
) -> Tensor:
    """Like `kernel`: store the gradients of a block of the left inputs, and pass over all of the right inputs."""
    symmetric, right = right is None, right or left
    plans = [plan(structure, memory) for structure in structures]
    sides = [
        Side(parameters, outputs, structure, p.step, p.outputs)
        for outputs, structure, p in zip((left, right), structures, plans, strict=True)
    ]
    result = empty_kernel((left, structures[0]), (right, structures[1]), summed)
    with counted(progress, len(left) * len(right)) as done:
        for block in pieces(0, len(left), block_size(memory, structures[0], *plans)):
            stored = sides[0].rows(block)
            for inputs, rows in _partners(stored, block, sides[1], symmetric):
                mirrored = symmetric and inputs.start >= block.stop
                put(result, block, inputs, inner_products(stored, rows, summed), mirrored)
                done(len(stored) * len(rows) * (2 if mirrored else 1))
    return result


def _partners(stored: Rows, block: slice, right: Side, symmetric: bool) -> Iterator[tuple[slice, Rows]]:
    """Yield what a block is multiplied with: the right side; if both sides are equal, itself and what follows it."""
    if symmetric:
        for piece in pieces(0, len(stored), right.step):
            yield slice(block.start + piece.start, block.start + piece.stop), stored[piece]
    yield from right.passes(slice(block.stop if symmetric else 0, len(right.outputs)))
