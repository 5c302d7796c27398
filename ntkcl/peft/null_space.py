"""The null space of a covariance, found by the knee of its singular values, as in VPT-NSP."""

import numpy as np
import torch
from torch import Tensor

SMOOTHED_FROM = 128  # values; shorter spectra are used as they are
SMOOTHING = 10.0  # standard deviation, in positions
TRIMMED = 0.03  # fraction of the second differences that is cut off, half at each end


def null_space_start(values: Tensor) -> int:
    """The position where the null space starts in descending singular `values`, (k,).

    The knee is where the second difference of the smoothed values is largest. The null space starts at the last value
    that is not below the value at the knee.
    """
    from scipy.ndimage import gaussian_filter1d

    values = values.double().cpu().numpy()
    is_long = len(values) >= SMOOTHED_FROM
    curve = gaussian_filter1d(values, SMOOTHING) if is_long else values
    bends, cut = np.diff(curve, 2), int(TRIMMED * len(values) / 2) if is_long else 0
    kept = bends[cut : len(bends) - cut]
    if not len(kept):  # with fewer than three values there is no knee
        return len(values) - 1
    knee = int(kept.argmax()) + (len(values) - len(kept)) // 2
    return int(np.flatnonzero(values >= values[knee])[-1])


def null_space_map(covariance: Tensor, share: float) -> tuple[Tensor, int]:
    """The map share * B + (1 - share) * I with B = U U^T / |U U^T|, where the columns of U span the null space.

    Args:
        covariance: (k, k), symmetric.
        share: how much of the map is the projection.

    Returns:
        The map (k, k), and the dimension of the null space.
    """
    _, values, directions = torch.linalg.svd(covariance)
    rows = directions[null_space_start(values) :]
    projection = rows.T @ rows
    identity = torch.eye(len(covariance)).to(covariance)
    return share * projection / projection.norm() + (1 - share) * identity, len(rows)
