"""Alignment of the rows of a weight with those of a reference by exact optimal transport."""

import numpy as np
import torch
from torch import Tensor

SMALLEST_NORM = SMALLEST_MASS = 1e-9
SMALLEST_COLUMN = 1e-7
MOST_ITERATIONS = 10**8  # of the network simplex: high, as it ends there with a plan that is not the best


def transport_plan(rows: Tensor, reference: Tensor, as_trained: Tensor | None = None) -> Tensor:
    """How the rows of a weight go over into those of a reference, (n, m); its columns sum to nearly 1.

    It is computed, and returned, in float64 on the CPU.

    The cost is the squared Euclidean distance of rows of unit length; masses are the L1 norms of rows.
    Columns are divided by their sum + 1e-7, as EvoPrompt's code does, so with 3840 rows they sum to 1 - 4e-4.

    Args:
        rows: (n, d).
        reference: (m, d).
        as_trained: (n, any), whose norms are the masses of `rows`; by default they are their own.
    """
    from ot import emd  # it takes a second, and few need it

    as_trained = rows if as_trained is None else as_trained
    rows, reference, as_trained = (x.detach().double().cpu() for x in (rows, reference, as_trained))
    directions = [x / (x.norm(dim=1, keepdim=True) + SMALLEST_NORM) for x in (rows, reference)]
    cost = torch.cdist(*directions, compute_mode="donot_use_mm_for_euclid_dist").square()
    masses = (_masses(as_trained), _masses(reference))
    plan = torch.from_numpy(emd(*masses, cost.numpy(), numItermax=MOST_ITERATIONS))
    return plan / (plan.sum(0) + SMALLEST_COLUMN)


def _masses(rows: Tensor) -> np.ndarray:
    """L1 norms of rows, divided by their sum."""
    norms = rows.abs().sum(1) + SMALLEST_MASS
    return (norms / norms.sum()).numpy()
