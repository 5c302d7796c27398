"""A linear head by ridge regression on accumulated sums, and the choice of its ridge, as in RanPAC."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ntkcl.errors import UserError

CHUNK = 1024  # rows that are converted to float64 at once


def sound_ridges(gram: Tensor, ridges: Sequence[float]) -> list[float]:
    """The `ridges` that are not lost in the rounding of `gram`: at least eps |gram|; the largest one if none is.

    Args:
        gram: G, (M, M), the sum of h h^T; eps is that of its type.
        ridges: in any order.
    """
    least = torch.finfo(gram.dtype).eps * gram.norm().item()
    return [ridge for ridge in ridges if ridge >= least] or [max(ridges)]


def ridge_head(gram: Tensor, sums: Tensor, ridge: float) -> Tensor:
    """Weights ((G + ridge I)^-1 Q)^T, (C, M): one Cholesky factorization in float64 for all classes.

    Args:
        gram: G, (M, M), the sum of h h^T.
        sums: Q, (M, C), the sum of h y^T.
        ridge: the ridge.

    Raises:
        UserError: rounding made G + ridge I not positive.
    """
    factor = _factor(gram.to(torch.float64, copy=True), ridge)
    if factor.isnan().any():
        raise UserError(f"the ridge regression cannot be solved with a ridge of {ridge:g}; add larger ones to ridges")
    return torch.cholesky_solve(sums.double(), factor).T.to(sums)


def ridge_losses(hidden: Tensor, targets: Tensor, fitted: int, ridges: Sequence[float]) -> Tensor:
    """For each ridge, the mean squared error on the other rows of a head fitted to the first `fitted`, (ridges,).

    With fewer rows than columns, the equal problem of kernel ridge regression is solved: (H H^T + ridge I) A = Y.

    Args:
        hidden: H, (N, M).
        targets: Y, (N, C).
        fitted: number of rows for the fit, at least 1 and fewer than N.
        ridges: the ridges.
    """
    fit, held = hidden[:fitted], hidden[fitted:]
    targets = targets.double()
    if fitted <= hidden.shape[1]:
        matrix, right, rows = _product(fit.T, fit.T), targets[:fitted], _product(held.T, fit.T)
    else:
        matrix, right, rows = _product(fit, fit), _product(fit, targets[:fitted]), held.double()
    found = (rows @ torch.cholesky_solve(right, _factor(matrix.clone(), ridge)) for ridge in ridges)
    return torch.stack([(each - targets[fitted:]).square().mean() for each in found])


def _factor(matrix: Tensor, ridge: float) -> Tensor:
    """The Cholesky factor of `matrix` + ridge I; changes `matrix`. Not finite if rounding made that not positive."""
    matrix.diagonal().add_(ridge)
    factor, failed = torch.linalg.cholesky_ex(matrix)
    return factor.fill_(float("nan")) if failed else factor


def _product(left: Tensor, right: Tensor) -> Tensor:
    """left^T right in float64, of (N, a) and (N, b)."""
    pairs = zip(left.split(CHUNK), right.split(CHUNK), strict=True)
    return sum(a.double().T @ b.double() for a, b in pairs)
