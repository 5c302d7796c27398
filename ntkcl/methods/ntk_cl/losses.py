"""The terms of NTK-CL's loss that are formulas of features alone."""

import torch
import torch.nn.functional as F
from torch import Tensor


def info_nce(features: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """-log(sum over all positive pairs of exp S) + mean over rows of logsumexp(S row); S = cosines / temperature.

    The diagonal of S is left out. As in the released code of NTK-CL (arXiv 2407.17120), which maximizes it.

    Args:
        features: (n, D).
        labels: (n,); a pair is positive when its labels are equal.

    Returns:
        A number; nan, with a zero gradient, when there is no positive pair.
    """
    if len(features) < 2:
        return features.sum() * 0 + torch.nan
    rows = F.normalize(features, dim=1)
    similarity = rows @ rows.T / temperature
    itself = torch.eye(len(rows), dtype=torch.bool, device=rows.device)
    positive = (labels[:, None] == labels) & ~itself
    # without a pair the sum is empty: any finite stand-in keeps the gradient free of nan, and no host has to look
    pairs = torch.where(positive.any(), similarity.masked_fill(~positive, -torch.inf), 0.0)
    value = similarity.masked_fill(itself, -torch.inf).logsumexp(1).mean() - pairs.flatten().logsumexp(0)
    return torch.where(positive.any(), value, torch.nan)


def leading_directions(prototypes: Tensor, most: int) -> Tensor:
    """The leading left singular vectors of the normalized prototypes as columns (D, n).

    n is at most `most`, and at most as many as there are prototypes. (The released code of NTK-CL completes them by
    arbitrary vectors.)

    Args:
        prototypes: (classes, D).
    """
    return torch.linalg.svd(F.normalize(prototypes, dim=1).T, full_matrices=False)[0][:, :most]
