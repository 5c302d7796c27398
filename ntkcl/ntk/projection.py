"""Estimate of the kernel from random projections of the gradients, with an error bound."""

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ntkcl.ntk.blocks import pieces
from ntkcl.ntk.contraction import Side
from ntkcl.ntk.functions import Outputs, Parameters, detached
from ntkcl.ntk.jacobian import Rows, gathered, inner_products, plan
from ntkcl.ntk.progress import Progress, counted
from ntkcl.ntk.structure import structures_of

SIGNS_PER_SLICE = 1 << 22  # number of signs that are generated at once
BYTE_SIGNS = (((torch.arange(256)[:, None] >> torch.arange(8)) & 1) * 2 - 1).to(torch.int8)  # eight for each byte


@dataclass(frozen=True)
class Estimate:
    """An estimated kernel.

    Args:
        kernel: (N, C, N', C'), or (N, N') if summed.
        error: bound for the error of each entry, in the kernel's shape; all bounds are true at once with the requested
            probability.
    """

    kernel: Tensor
    error: Tensor


def projected_kernel(
    parameters: Parameters,
    left: Outputs,
    right: Outputs | None = None,
    *,
    summed: bool = False,
    dimension: int = 4096,
    seed: int = 0,
    failure: float = 0.01,
    memory: int = 1 << 30,
    progress: Progress = False,
) -> Estimate:
    """Estimate the kernel from gradients that a random matrix of signs maps to `dimension` numbers.

    Every gradient is computed once, however many inputs there are, and the storage of an input does not depend on the
    number of parameters. Weights whose gradients are outer products (see `ntkcl.ntk.jacobian`) are not projected: their
    contribution is exact. The mean of the estimate over seeds is the kernel. With probability 1 - `failure`, its error
    is at most eps ||a|| ||b|| for all pairs of projected gradients a and b at once, with eps = `projection_error(...)`.
    If it is summed over classes, the bounds are summed too.

    Args:
        parameters: parameters by name.
        left: outputs at the left inputs.
        right: outputs at the right inputs; by default `left`.
        summed: sum over outputs, as in `kernel`.
        dimension: d. eps is about 2 sqrt(ln(4 entries / failure) / d).
        seed: seed of the signs. They depend on it, on `dimension` and on the parameters' names, not on `memory`.
        failure: probability that a bound is exceeded.
        memory: bytes for the passes. The projected gradients, C x dimension numbers for each input, come on top.
        progress: as in `kernel`.

    Raises:
        ValueError: as for `kernel`; or `dimension` is too small for a bound.
    """
    parameters, sides = detached(parameters), (left,) if right is None else (left, right)
    structures = structures_of(parameters, left, right, summed)
    rows_left, rows_right = (len(o) * s.classes for o, s in zip((left, sides[-1]), structures, strict=True))
    entries = rows_left * rows_right if right is not None else rows_left * (rows_left + 1) // 2
    eps = projection_error(dimension, entries, failure)
    signs = Signs(structures[0].ordinary, dimension, seed)
    with counted(progress, sum(len(outputs) for outputs in sides)) as done:
        images = [
            signs.image(Side(parameters, outputs, structure, chosen.step, chosen.outputs), done)
            for outputs, structure in zip(sides, structures, strict=False)
            for chosen in [plan(structure, memory)]
        ]
    (first, norms), (second, other_norms) = images[0], images[-1]
    error = eps * inner_products(Rows(norms[..., None], []), Rows(other_norms[..., None], []), summed)
    return Estimate(inner_products(first, second, summed), error)


def projection_error(dimension: int, entries: int, failure: float) -> float:
    """Return eps such that |<Ra, Rb>/d - <a, b>| <= eps ||a|| ||b|| for `entries` pairs with probability 1 - `failure`.

    R has d rows of independent random signs. For one vector v, ||Rv||^2/d is above (1 + eps) ||v||^2 with a
    probability of at most exp(-d (eps^2/4 - eps^3/6)), and below (1 - eps) ||v||^2 with the same (Achlioptas,
    Database-friendly random projections, J. Comput. Syst. Sci. 66, 2003, theorem 1.1 and its proof, for
    0 < eps < 1). For a and b of length 1, <Ra, Rb> = (||R(a + b)||^2 - ||R(a - b)||^2) / 4, and
    ||a + b||^2 + ||a - b||^2 = 4: an error above eps needs one of these four events. Together with the union over
    pairs, failure = 4 entries exp(-d (eps^2/4 - eps^3/6)), which is solved for eps.

    Raises:
        ValueError: no eps below 1 fulfills it.
    """
    wanted = math.log(4 * entries / failure) / dimension
    if wanted >= 1 / 12:
        least = math.floor(12 * math.log(4 * entries / failure)) + 1
        raise ValueError(f"dimension {dimension} gives no bound for {entries} entries; take {least} or more")
    low, high = 0.0, 1.0
    while high - low > 1e-12:
        middle = (low + high) / 2
        low, high = (middle, high) if middle**2 / 4 - middle**3 / 6 < wanted else (low, middle)
    return high


@dataclass(frozen=True)
class Signs:
    """A random matrix (P, `dimension`) of -1 and 1, generated from the seed whenever it is needed.

    Args:
        sizes: number of elements of each parameter; their sum is P.
    """

    sizes: dict[str, int]
    dimension: int
    seed: int

    def image(self, side: Side, done: Callable[[int], None]) -> tuple[Rows, Tensor]:
        """Gradients of a side with the written part projected, and the norms (N, C) of that part before."""
        lengths = []

        def projected() -> Iterator[Rows]:
            for _, rows in side.passes(slice(0, len(side.outputs))):
                lengths.append(rows.written.norm(dim=2))
                yield Rows(self.applied(rows.written), rows.direct)
                done(len(rows))

        rows = gathered(projected(), len(side.outputs))
        return rows, torch.cat(lengths)

    def applied(self, written: Tensor) -> Tensor:
        """Multiply (B, C, P) with the matrix / sqrt(dimension): (B, C, dimension)."""
        result, first = written.new_zeros(*written.shape[:2], self.dimension), 0
        for signs in self.slices():
            result += written[..., first : first + len(signs)] @ signs.to(written)
            first += len(signs)
        return result / self.dimension**0.5

    def slices(self) -> Iterator[Tensor]:
        """Yield the matrix, a few rows at a time, as int8 on the CPU."""
        for name, size in self.sizes.items():
            digest = hashlib.sha256(f"{self.seed} {self.dimension} {name}".encode()).digest()
            generator = torch.Generator().manual_seed(int.from_bytes(digest[:7]))
            for piece in pieces(0, size, max(1, SIGNS_PER_SLICE // self.dimension)):
                values = torch.randint(256, (piece.stop - piece.start, -(-self.dimension // 8)), generator=generator)
                yield BYTE_SIGNS[values].flatten(1)[:, : self.dimension]
