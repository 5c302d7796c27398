"""Points outside a cloud of features, chosen by the distance to their k-th nearest feature."""

import torch
import torch.nn.functional as F
from torch import Tensor


def kth_distances(points: Tensor, unit_features: Tensor, neighbours: int) -> Tensor:
    """The squared distance (n,) of points (n, d) to their k-th nearest feature, or to the farthest of fewer."""
    k = min(neighbours, len(unit_features))
    return torch.cdist(points, unit_features).square().kthvalue(k, dim=1)[0]


def outliers_of_noise(features: Tensor, noise: Tensor, neighbours: int, copies: int) -> Tensor:
    """The noise itself, farthest from the features first, each vector several times: the rule of OVOR's released code.

    Args:
        features: (N, d); they are divided by their norms, the noise is not.
        noise: (n, d).
        neighbours: k.
        copies: of each vector, at most N.
    """
    order = kth_distances(noise, F.normalize(features, dim=1), neighbours).argsort(descending=True)
    return noise[order].repeat_interleave(min(copies, len(features)), 0)


def outliers_around(features: Tensor, noise: Tensor, neighbours: int, boundary_points: int) -> Tensor:
    """Boundary points plus noise, farthest from the features first: the rule that the paper describes.

    Boundary points are the features that are farthest from their k-th neighbour. Distances are between unit vectors.
    The best candidate of each noise vector is returned, so that they are distinct.

    Args:
        features: (N, d).
        noise: (n, d).
        neighbours: k.
        boundary_points: number of them, at most N.
    """
    unit = F.normalize(features, dim=1)
    alone = kth_distances(unit, unit, min(neighbours, len(unit) - 1) + 1)  # each is its own first neighbour
    boundary = features[alone.argsort(descending=True)[:boundary_points]]
    distances = torch.stack([kth_distances(F.normalize(point + noise, dim=1), unit, neighbours) for point in boundary])
    farthest, best = distances.max(0)
    order = farthest.argsort(descending=True)
    return boundary[best[order]] + noise[order]
