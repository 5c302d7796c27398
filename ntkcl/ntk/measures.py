"""What a tangent kernel, or the features behind one, tells about a model and its tasks: numbers of matrices alone.

A kernel is a symmetric positive semi-definite (n, n) tensor over n images, in any float type: all is computed in
float64. The numbers have no unit, except that eigenvalues have the kernel's.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def spectrum(kernel: Tensor) -> Tensor:
    """The eigenvalues in descending order, (n,), in float64; what rounding left below 0 is 0."""
    return torch.linalg.eigvalsh(kernel.double()).flip(0).clamp_min(0)


def effective_dimension(kernel: Tensor, ridge: float) -> float:
    """Tr K (K + ridge I)^-1: how many directions the kernel ridge predictor fits, between 0 and the rank of K.

    The degrees of freedom of Zhang 2005 ("Learning bounds for kernel regression using effective data dimensionality").
    `ridge` has the unit of the kernel's eigenvalues.

    Raises:
        ValueError: the ridge is not above 0.
    """
    if ridge <= 0:
        raise ValueError(f"the ridge must be above 0, not {ridge}")
    values = spectrum(kernel)
    return float((values / (values + ridge)).sum())


def relative_change(kernel: Tensor, before: Tensor) -> float:
    """||K - before||_F / ||before||_F: 0 where nothing changed; inf, or nan without a change, where `before` is 0."""
    return float((kernel.double() - before.double()).norm() / before.double().norm())


def alignment(kernel: Tensor, other: Tensor) -> float:
    """<HKH, HLH>_F / (||HKH||_F ||HLH||_F) with H = I - 11^T / n: centred alignment, Cortes et al. 2012 (1203.0550).

    In [-1, 1], and from 0 for positive semi-definite kernels. nan where a kernel is constant, as a zero kernel is: it
    tells no image from another.
    """
    first, second = _centred(kernel), _centred(other)
    value = (first * second).sum() / (first.norm() * second.norm())
    return float(value.clamp(-1, 1))


def coupling(between: Tensor, within: Tensor, within_other: Tensor) -> float:
    """||K_ij||_F / sqrt(||K_ii||_F ||K_jj||_F): how much the gradients of two tasks' images share.

    With K_ij = A B^T for gradients A and B, its square is the cosine of the matrices A^T A and B^T B, by which
    ||A B^T||_F^2 = <A^T A, B^T B>. So it is in [0, 1] where the three are blocks of one kernel: 0 for orthogonal
    gradients, and 1 exactly where A^T A and B^T B are proportional, as for a task with itself. nan for a zero kernel.

    Args:
        between: K_ij, (n_i, n_j).
        within: K_ii, (n_i, n_i).
        within_other: K_jj, (n_j, n_j).
    """
    norms = [block.double().norm() for block in (between, within, within_other)]
    return float(norms[0] / (norms[1] * norms[2]).sqrt())


def couplings(kernel: Tensor, sizes: Sequence[int]) -> Tensor:
    """`coupling` of every task with every other, (T, T), in float64.

    Args:
        kernel: (N, N) over the images of all tasks, those of a task together, summed over the outputs.
        sizes: images of each of the T tasks, in the order of the rows.

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
    """The angles between the leading directions of two tasks' features, subspaces of R^D; radians, ascending.

    Each task's images have features of their own, one in a row; its subspace is spanned by the leading principal
    directions of these. They are centred first: all features of one ViT share a large mean, which would make the
    first angle 0 whatever the features tell apart.

    Björck and Golub 1973: cosines are the singular values of Q^T P; where they are near 1 they say little about the
    angle, so there it comes from the sines, the singular values of (I - Q Q^T) P (Knyazev and Argentati 2002).

    Args:
        features: (n, D).
        other: (m, D).
        dimension: of each subspace, from 1.

    Returns:
        (dimension,) in float64, in [0, π / 2].

    Raises:
        ValueError: the features differ in D, or centred ones have a lower rank than `dimension`, so that no such
            subspace is singled out.
    """
    if features.shape[1] != other.shape[1]:
        raise ValueError(f"features of width {features.shape[1]} and {other.shape[1]} cannot be compared")
    basis, second = _leading(features, dimension), _leading(other, dimension)
    shared = basis.T @ second
    cosines = torch.linalg.svdvals(shared).clamp_max(1)
    sines = torch.linalg.svdvals(second - basis @ shared).flip(0).clamp_max(1)
    return torch.where(cosines > sines, sines.asin(), cosines.acos())


def overlap(angles: Tensor) -> float:
    """The mean squared cosine of principal angles: 1 for equal spans, 0 for orthogonal ones."""
    return float(angles.cos().square().mean())


def _centred(kernel: Tensor) -> Tensor:
    """HKH in float64; exactly 0 where it is no more than the rounding of K."""
    exact = kernel.double()
    centred = exact - exact.mean(0, keepdim=True) - exact.mean(1, keepdim=True) + exact.mean()
    rounding = len(kernel) * torch.finfo(kernel.dtype).eps * exact.norm()
    return torch.where(centred.norm() > rounding, centred, 0.0)


def _leading(features: Tensor, dimension: int) -> Tensor:
    """The leading principal directions of features (n, D) as columns, (D, dimension)."""
    exact = features.double()
    _, values, vectors = torch.linalg.svd(exact - exact.mean(0), full_matrices=False)
    rounding = max(features.shape) * torch.finfo(features.dtype).eps * torch.linalg.matrix_norm(exact)
    rank = int((values > rounding).sum())
    if not 1 <= dimension <= rank:
        raise ValueError(f"the dimension must be from 1 to the rank of the centred features, {rank}, not {dimension}")
    return vectors[:dimension].T
