"""Directions that gradients must not have: a basis that grows with the representation of each task, as in L2P-PGP."""

import torch
from torch import Tensor, nn

ROUNDING = 1e-12  # of shares


class GradientMemory(nn.Module):
    """An orthonormal basis of directions; the columns in use come first, zeros after them.

    Args:
        dim: number of components of a direction.
        threshold: share of a representation's energy that its directions should explain.
    """

    def __init__(self, dim: int, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold
        self.register_buffer("basis", torch.zeros(dim, dim))

    @property
    def columns(self) -> int:
        """Number of directions in the basis."""
        return int(self.basis.any(0).sum())

    def projector(self) -> Tensor:
        """The projection (dim, dim) onto the basis."""
        return self.basis @ self.basis.T

    def grow(self, representation: Tensor, is_first: bool, least: int = 0) -> None:
        """Add left singular vectors of H - B B^T H with H = M M^T, for the representation M, (dim, n).

        The shares that they explain are those of sum s^2 of H. The first task takes vectors while their share stays
        below the threshold, so that it may take none; later ones take vectors until it is reached.

        Args:
            representation: M.
            is_first: whether it is that of the first task.
            least: number of vectors that the first task takes at least.
        """
        gram, count = representation @ representation.T, self.columns
        directions, values, _ = torch.linalg.svd(gram - self.projector() @ gram)
        energies, total = values.square(), torch.linalg.svdvals(gram).square().sum()
        shares = 1 - energies.sum() / total + energies.cumsum(0) / total  # of the basis with one, two, ... vectors more
        below = int((shares < self.threshold).sum())
        is_enough = bool(1 - energies.sum() / total >= self.threshold - ROUNDING)
        new = min(max(below, least) if is_first else 0 if is_enough else below + 1, len(gram) - count)
        self.basis[:, count : count + new] = directions[:, :new]


def principal_scores(rows: Tensor, count: int) -> Tensor:
    """Scores (n, count) of the largest principal components of `rows`, (n, width).

    The largest score of each component is positive, as in scikit-learn before version 1.5.
    """
    left, values, _ = torch.linalg.svd(rows - rows.mean(0), full_matrices=False)
    scores = left[:, :count] * values[:count]
    return scores * scores.gather(0, scores.abs().argmax(0, keepdim=True)).sign()
