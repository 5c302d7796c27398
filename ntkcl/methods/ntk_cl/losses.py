"""Terms of NTK-CL's loss that depend on features only."""

import torch
import torch.nn.functional as F
from torch import Tensor


def info_nce(features: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """-log(sum over all positive pairs of exp S) + mean over rows of logsumexp(S row); S = cosines / temperature.

    The diagonal of S is excluded. As in the released code of NTK-CL (arXiv 2407.17120), which maximizes it.

    Args:
        features: (n, D).
        labels: (n,); a pair is positive if its labels are equal.
        temperature: divisor of the cosines.

    Returns:
        A number; nan, with a zero gradient, if there is no positive pair.
    """
    if len(features) < 2:
        return features.sum() * 0 + torch.nan
    rows = F.normalize(features, dim=1)
    similarity = rows @ rows.T / temperature
    itself = torch.eye(len(rows), dtype=torch.bool, device=rows.device)
    positive = (labels[:, None] == labels) & ~itself
    # without a pair the sum is empty: a finite value instead keeps nan out of the gradient, and the host need not wait
    pairs = torch.where(positive.any(), similarity.masked_fill(~positive, -torch.inf), 0.0)
    value = similarity.masked_fill(itself, -torch.inf).logsumexp(1).mean() - pairs.flatten().logsumexp(0)
    return torch.where(positive.any(), value, torch.nan)


def leading_directions(prototypes: Tensor, most: int) -> Tensor:
    """Compute the leading left singular vectors of the normalized prototypes, as columns (D, n).

    n is at most `most` and at most the number of prototypes. (The released code of NTK-CL completes the vectors with
    arbitrary ones.)

    Args:
        prototypes: (classes, D).
        most: maximum number of vectors.
    """
    return torch.linalg.svd(F.normalize(prototypes, dim=1).T, full_matrices=False)[0][:, :most]
