"""Summaries over seeds, 95 % intervals of paired differences, ranks and their correlations."""

from collections.abc import Sequence

import numpy as np
from scipy import stats

CONFIDENCE_LEVEL = 0.95

Interval = dict[str, float | int | None]


def paired_difference(values: Sequence[float], reference: Sequence[float]) -> Interval:
    """Mean of values - reference over pairs, with its Student's t interval.

    The interval assumes that the differences of pairs are independent and approximately normal.

    Args:
        values: one number per pair. A pair shares its randomness, such as two runs with the same seed.
        reference: the other number of each pair, in the same order.

    Returns:
        "mean", its interval from "low" to "high" (None for a single pair) and "n", the number of pairs.

    Raises:
        ValueError: there are no pairs, the lengths differ, or a number is missing (None or nan).
    """
    if len(values) != len(reference) or not len(values):
        raise ValueError(f"{len(values)} values and {len(reference)} references are no pairs")
    differences = np.asarray(values, dtype=float) - np.asarray(reference, dtype=float)
    if np.isnan(differences).any():
        raise ValueError("a value or a reference is missing")
    mean, n = float(differences.mean()), len(differences)
    if n == 1:
        return {"mean": mean, "low": None, "high": None, "n": n}
    margin = float(stats.t.ppf((1 + CONFIDENCE_LEVEL) / 2, n - 1) * differences.std(ddof=1) / np.sqrt(n))
    return {"mean": mean, "low": mean - margin, "high": mean + margin, "n": n}


def mean_over(values: Sequence[float]) -> Interval:
    """Mean of `values`, such as one number per seed, with its Student's t interval; see `paired_difference`."""
    return paired_difference(values, [0.0] * len(values))


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks along the last dimension, from 1 for the smallest; equal values have their mean rank."""
    return stats.rankdata(values, axis=-1)


def spearman(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Spearman's rank correlation, with mean ranks for ties; None if x or y is constant or empty.

    Raises:
        ValueError: the lengths differ, or a number is nan.
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
        ValueError: `values` is empty.
    """
    if not len(values):
        raise ValueError("no values to summarize")
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "std": deviation, "n": len(values)}
