"""Points outside a cloud of features, chosen by the distance to their k-th nearest feature."""

import torch
import torch.nn.functional as F
from torch import Tensor

POINTS_AT_ONCE = 1024  # whose distances to all features are in memory together


def kth_distances(points: Tensor, unit_features: Tensor, neighbours: int) -> Tensor:
    """The squared distance (n,) of points (n, d) to their k-th nearest feature, or to the farthest of fewer."""
    k = min(neighbours, len(unit_features))
    parts = [torch.cdist(part, unit_features).kthvalue(k, dim=1)[0] for part in points.split(POINTS_AT_ONCE)]
    return torch.cat(parts).square()


def outliers_of_noise(features: Tensor, noise: Tensor, neighbours: int, copies: int, count: int) -> Tensor:
    """The noise itself, farthest from the features first, each vector several times: the rule of OVOR's released code.

    Args:
        features: (N, d); they are divided by their norms, the noise is not.
        noise: (n, d).
        neighbours: k.
        copies: of each vector, at most N.
        count: largest number of outliers.
    """
    order = kth_distances(noise, F.normalize(features, dim=1), neighbours).argsort(descending=True)
    return noise[order].repeat_interleave(min(copies, len(features)), 0)[:count]


def outliers_around(features: Tensor, noise: Tensor, neighbours: int, boundary_points: int, count: int) -> Tensor:
    """Boundary points plus noise, farthest from the features first: the rule that the paper describes.

    Boundary points are the features that are farthest from their k-th neighbour. Each of them plus each noise vector is
    a candidate. Distances are between unit vectors.

    Args:
        features: (N, d).
        noise: (n, d).
        neighbours: k.
        boundary_points: number of them, at most N.
        count: largest number of outliers.
    """
    unit = F.normalize(features, dim=1)
    alone = kth_distances(unit, unit, neighbours + 1)  # each is its own first neighbour
    boundary = features[alone.argsort(descending=True)[:boundary_points]]
    distances = [kth_distances(F.normalize(point + noise, dim=1), unit, neighbours) for point in boundary]
    farthest = torch.cat(distances).argsort(descending=True)[:count]
    return boundary[farthest // len(noise)] + noise[farthest % len(noise)]
