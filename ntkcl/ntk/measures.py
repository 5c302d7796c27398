"""Measures of tangent kernels and of features.

A kernel is a symmetric positive semi-definite (n, n) tensor over n images, in any float type. All measures are computed
in float64 and have no unit, except that eigenvalues have the kernel's.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def spectrum(kernel: Tensor) -> Tensor:
    """Eigenvalues in descending order, (n,), in float64; values that are negative by rounding become 0."""
    return torch.linalg.eigvalsh(kernel.double()).flip(0).clamp_min(0)


def effective_dimension(kernel: Tensor, ridge: float) -> float:
    """Tr K (K + ridge I)^-1: number of directions that the kernel ridge predictor fits, from 0 to the rank of K.

    This is the number of degrees of freedom of Zhang 2005 ("Learning bounds for kernel regression using effective data
    dimensionality"). `ridge` has the unit of the kernel's eigenvalues.

    Raises:
        ValueError: the ridge is not positive.
    """
    if ridge <= 0:
        raise ValueError(f"the ridge must be above 0, not {ridge}")
    values = spectrum(kernel)
    return float((values / (values + ridge)).sum())


def relative_change(kernel: Tensor, before: Tensor) -> float:
    """||K - before||_F / ||before||_F. If `before` is 0, it is inf, or nan if the kernel is 0 too."""
    return float((kernel.double() - before.double()).norm() / before.double().norm())


def alignment(kernel: Tensor, other: Tensor) -> float:
    """<HKH, HLH>_F / (||HKH||_F ||HLH||_F) with H = I - 11^T / n: centered alignment, Cortes et al. 2012 (1203.0550).

    In [-1, 1], and not negative for positive semi-definite kernels. nan if a kernel is constant (such as zero), since
    it does not distinguish images.
    """
    first, second = _centered(kernel), _centered(other)
    value = (first * second).sum() / (first.norm() * second.norm())
    return float(value.clamp(-1, 1))


def coupling(between: Tensor, within: Tensor, within_other: Tensor) -> float:
    """||K_ij||_F / sqrt(||K_ii||_F ||K_jj||_F): similarity of the gradients of two tasks' images.

    If K_ij = A B^T for gradients A and B, its square is the cosine of the matrices A^T A and B^T B, since
    ||A B^T||_F^2 = <A^T A, B^T B>. So it is in [0, 1] if the three are blocks of one kernel: 0 for orthogonal
    gradients, and 1 if and only if A^T A and B^T B are proportional, as for a task with itself. nan for a zero kernel.

    Args:
        between: K_ij, (n_i, n_j).
        within: K_ii, (n_i, n_i).
        within_other: K_jj, (n_j, n_j).
    """
    norms = [block.double().norm() for block in (between, within, within_other)]
    return float(norms[0] / (norms[1] * norms[2]).sqrt())


def couplings(kernel: Tensor, sizes: Sequence[int]) -> Tensor:
    """`coupling` of all pairs of tasks, (T, T), in float64.

    Args:
        kernel: (N, N), summed over the outputs; rows are the images of all tasks, sorted by task.
        sizes: number of images of each of the T tasks, in the order of the rows.

    Raises:
        ValueError: the sizes do not add up to N.
    """
    if kernel.shape != (sum(sizes), sum(sizes)):
        raise ValueError(f"a kernel of shape {tuple(kernel.shape)} is not over the {sum(sizes)} images of the tasks")
    tasks = range(len(sizes))
    blocks = [rows.split(list(sizes), dim=1) for rows in kernel.split(list(sizes))]
    values = [[coupling(blocks[i][j], blocks[i][i], blocks[j][j]) for j in tasks] for i in tasks]
    return torch.tensor(values, dtype=torch.float64)


def principal_angles(features: Tensor, other: Tensor, dimension: int) -> Tensor:
    """Angles between the leading directions of two tasks' features, subspaces of R^D; in radians, ascending.

    The subspace of a task is spanned by the leading principal directions of its images' features. The features are
    centered first: all features of a ViT share a large mean, which would make the first angle 0 for any two tasks.

    By Björck and Golub 1973, the cosines are the singular values of Q^T P. Cosines near 1 determine the angle badly, so
    there the sines are used, the singular values of (I - Q Q^T) P (Knyazev and Argentati 2002).

    Args:
        features: (n, D), one image per row.
        other: (m, D), of the other task.
        dimension: dimension of each subspace, at least 1.

    Returns:
        (dimension,) in float64, in [0, π / 2].

    Raises:
        ValueError: the features differ in D, or the rank of centered features is below `dimension`, so that the
            subspace is not defined.
    """
    if features.shape[1] != other.shape[1]:
        raise ValueError(f"features of width {features.shape[1]} and {other.shape[1]} cannot be compared")
    basis, second = _leading(features, dimension), _leading(other, dimension)
    shared = basis.T @ second
    cosines = torch.linalg.svdvals(shared).clamp_max(1)
    sines = torch.linalg.svdvals(second - basis @ shared).flip(0).clamp_max(1)
    return torch.where(cosines > sines, sines.asin(), cosines.acos())


def overlap(angles: Tensor) -> float:
    """Mean squared cosine of principal angles: 1 for equal subspaces, 0 for orthogonal ones."""
    return float(angles.cos().square().mean())


def _centered(kernel: Tensor) -> Tensor:
    """HKH in float64; exactly 0 if it does not exceed the rounding errors of K."""
    exact = kernel.double()
    centered = exact - exact.mean(0, keepdim=True) - exact.mean(1, keepdim=True) + exact.mean()
    rounding = len(kernel) * torch.finfo(kernel.dtype).eps * exact.norm()
    return torch.where(centered.norm() > rounding, centered, 0.0)


def _leading(features: Tensor, dimension: int) -> Tensor:
    """Leading principal directions of features (n, D) as columns, (D, dimension)."""
    exact = features.double()
    _, values, vectors = torch.linalg.svd(exact - exact.mean(0), full_matrices=False)
    rounding = max(features.shape) * torch.finfo(features.dtype).eps * torch.linalg.matrix_norm(exact)
    rank = int((values > rounding).sum())
    if not 1 <= dimension <= rank:
        raise ValueError(f"the dimension must be from 1 to the rank of the centered features, {rank}, not {dimension}")
    return vectors[:dimension].T
