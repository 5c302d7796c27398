"""95% intervals for what is compared over runs."""

from collections.abc import Sequence

import numpy as np
from scipy import stats

LEVEL = 0.95

Interval = dict[str, float | int | None]


def paired_difference(values: Sequence[float], reference: Sequence[float]) -> Interval:
    """The mean of values - reference over pairs, with Student's t interval for it.

    The interval takes the differences of pairs to be independent and about normal.

    Args:
        values: one number a pair; a pair is what shares its randomness, such as two runs with one seed.
        reference: the other number of each pair, in the same order.

    Returns:
        "mean", its interval "low" to "high" (None for a single pair) and "n", the number of pairs.

    Raises:
        ValueError: there are no pairs, the two are not equally many, or a number is missing (None or nan).
    """
    if len(values) != len(reference) or not len(values):
        raise ValueError(f"{len(values)} values and {len(reference)} references are no pairs")
    differences = np.asarray(values, dtype=float) - np.asarray(reference, dtype=float)
    if np.isnan(differences).any():
        raise ValueError("a value or a reference is missing")
    mean, n = float(differences.mean()), len(differences)
    if n == 1:
        return {"mean": mean, "low": None, "high": None, "n": n}
    margin = float(stats.t.ppf((1 + LEVEL) / 2, n - 1) * differences.std(ddof=1) / np.sqrt(n))
    return {"mean": mean, "low": mean - margin, "high": mean + margin, "n": n}


def spearman(
    x: Sequence[float], y: Sequence[float], clusters: Sequence[int | str], seed: int = 0, draws: int = 1000
) -> Interval:
    """Spearman's rank correlation of x and y, with a percentile interval from resampling whole clusters.

    Points of one run are not independent, so the bootstrap draws runs with replacement, each with all its points
    (Davison and Hinkley 1997, "Bootstrap methods and their application", page 100). With few clusters such an interval
    tends to be too narrow. Draws in which x or y is constant have no correlation and are left out.

    Args:
        clusters: what each point belongs to, such as its run.
        seed: of the draws; the same seed gives the same numbers.
        draws: the number of bootstrap samples.

    Returns:
        "correlation" (None where x or y is constant or empty), its interval "low" to "high" (None as well with a
        single cluster), "n", the number of points, and "clusters", their number.

    Raises:
        ValueError: the three are not equally long, or a number is missing (None or nan).
    """
    points = np.array([x, y], dtype=float)  # refuses unequal lengths
    if len(clusters) != points.shape[1] or np.isnan(points).any():
        raise ValueError("x, y and clusters must be equally long, with no number missing")
    labels, members = np.unique(np.asarray(clusters), return_inverse=True)
    correlation = _rank_correlation(points)
    low = high = None
    if correlation is not None and len(labels) > 1:
        groups = [np.flatnonzero(members == label) for label in range(len(labels))]
        chosen = np.random.default_rng(seed).integers(0, len(groups), (draws, len(groups)))
        drawn = [_rank_correlation(points[:, np.concatenate([groups[i] for i in draw])]) for draw in chosen]
        tails = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
        low, high = map(float, np.quantile([value for value in drawn if value is not None], tails))
    return {"correlation": correlation, "low": low, "high": high, "n": points.shape[1], "clusters": len(labels)}


def _rank_correlation(points: np.ndarray) -> float | None:
    """Spearman's correlation of the two rows, ties at their mean rank; None where a row is constant or empty."""
    if not points.size or (np.ptp(points, axis=1) == 0).any():
        return None
    ranks = stats.rankdata(points, axis=1)
    return float(np.clip(np.corrcoef(ranks)[0, 1], -1, 1))
