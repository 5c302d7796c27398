"""The space of a layer's old inputs, as in InfLoRA (DualGPM): its basis, or that of the space orthogonal to it."""

import torch
from torch import Tensor, nn

from ntkcl.errors import UserError


class ActivationSpace(nn.Module):
    """An orthonormal basis of the directions of old inputs, or of the other ones, whichever are fewer.

    Args:
        dim: width d of the inputs.
        switches: whether a basis of more than d / 2 columns is exchanged for that of the orthogonal space.

    Attributes:
        basis: (d, d), the basis and columns of zeros.
        columns: number of columns of the basis.
        is_allowed: whether the basis is that of the directions without old inputs.
    """

    def __init__(self, dim: int, switches: bool = True) -> None:
        super().__init__()
        self.switches = switches
        self.register_buffer("basis", torch.zeros(dim, dim))
        self.register_buffer("columns", torch.tensor(0))
        self.register_buffer("is_allowed", torch.tensor(False))

    def without_old(self, covariance: Tensor) -> Tensor:
        """The part of a covariance (d, d) whose columns have nothing of old inputs."""
        part = self.basis @ (self.basis.T @ covariance)
        return part if self.is_allowed else covariance - part

    def free_directions(self) -> int:
        """Number of directions without old inputs."""
        return int(self.columns if self.is_allowed else len(self.basis) - self.columns)

    def add(self, covariance: Tensor, share: float, is_first: bool) -> None:
        """Add inputs with this covariance C (d, d): the basis then explains `share` of |C|^2 (Frobenius).

        The first ones explain just less, as released.
        """
        if is_first:
            left, values, _ = torch.linalg.svd(covariance)
            shares = values.square().cumsum(0) / values.square().sum()
            self._set(left[:, : max(1, int((shares < share).sum()))])
        elif self.is_allowed:
            self._shrink(covariance, share)
        else:
            self._grow(covariance, share)
        if self.switches and not self.is_allowed and self.columns > len(self.basis) // 2:
            self._set(torch.linalg.svd(self._basis())[0][:, int(self.columns) :])
            self.is_allowed.fill_(True)

    def _grow(self, covariance: Tensor, share: float) -> None:
        left, values, _ = torch.linalg.svd(self.without_old(covariance))
        parts, count = (values.square() / covariance.square().sum()).tolist(), 0
        explained = 1 - sum(parts)
        while count < self.free_directions() and explained < share:
            explained, count = explained + parts[count], count + 1
        if count:
            self._set(torch.cat((self._basis(), left[:, :count]), 1))

    def _shrink(self, covariance: Tensor, share: float) -> None:
        left, values, _ = torch.linalg.svd(self.without_old(covariance))
        parts, count = (values.square() / covariance.square().sum()).tolist(), 0
        unexplained = sum(parts)
        while count < self.columns and unexplained >= 1 - share:
            unexplained, count = unexplained - parts[count], count + 1
        if count:
            removed, basis = left[:, :count], self._basis()
            rest = torch.linalg.svd(basis - removed @ (removed.T @ basis))[0]
            self._set(rest[:, : int(self.columns) - count])

    def _basis(self) -> Tensor:
        return self.basis[:, : int(self.columns)]

    def _set(self, basis: Tensor) -> None:
        self.basis.zero_()[:, : basis.shape[1]] = basis
        self.columns.fill_(basis.shape[1])


def check_free_directions(spaces: "nn.ModuleList", needed: int) -> None:
    """Make sure that each block's space leaves `needed` directions without old inputs.

    Raises:
        UserError: one does not; any further direction would be one of old inputs.
    """
    for index, space in enumerate(spaces):
        if (free := space.free_directions()) < needed:
            raise UserError(
                f"block {index} has {free} directions without inputs of earlier tasks, and a branch needs {needed}; "
                "lower rank, or the share of old inputs that is kept"
            )
