"""Summaries over seeds, 95 % intervals of paired differences, rank correlations."""

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


def mean_over(values: Sequence[float]) -> Interval:
    """The mean of `values`, such as one number a seed, with Student's t interval for it, as `paired_difference`."""
    return paired_difference(values, [0.0] * len(values))


def spearman(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Spearman's rank correlation, ties at their mean rank; None where x or y is constant or empty.

    Raises:
        ValueError: they are not equally long, or a number is nan.
    """
    points = np.array([x, y], dtype=float)  # refuses unequal lengths
    if np.isnan(points).any():
        raise ValueError("x and y must be without nan")
    if not points.size or (np.ptp(points, axis=1) == 0).any():
        return None
    ranks = stats.rankdata(points, axis=1)
    return float(np.clip(np.corrcoef(ranks)[0, 1], -1, 1))


def summary(values: Sequence[float]) -> dict[str, float | int | None]:
    """Mean, sample standard deviation (n - 1; None for a single value) and number of `values`.

    Raises:
        ValueError: there are none.
    """
    if not len(values):
        raise ValueError("no values to summarize")
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "std": spread, "n": len(values)}
