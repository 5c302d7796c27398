"""Intervals over seeds, and rank correlations: known values and what must not matter."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntkcl.metrics.statistics import mean_over, paired_difference, spearman, summary

NUMBERS = st.floats(-100, 100)


def test_paired_difference_by_hand():
    result = paired_difference([3.0, 5.0, 7.0], [2.0, 3.0, 4.0])
    margin = 4.302653 / np.sqrt(3)  # the 97.5% point of t with 2 degrees of freedom; the differences' deviation is 1
    assert result == {"mean": 2.0, "low": pytest.approx(2 - margin), "high": pytest.approx(2 + margin), "n": 3}


def test_one_pair_has_no_interval():
    assert paired_difference([3.0], [1.0]) == {"mean": 2.0, "low": None, "high": None, "n": 1}


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=2, max_size=8), st.lists(NUMBERS, min_size=8, max_size=8))
def test_what_a_pair_shares_does_not_count(pairs, shared):
    values, reference = np.array(pairs).T
    shared = np.array(shared[: len(pairs)])
    plain = paired_difference(values, reference)
    assert paired_difference(values + shared, reference + shared) == pytest.approx(plain, abs=1e-9)
    assert plain["low"] <= plain["mean"] <= plain["high"]
    opposite = paired_difference(reference, values)
    assert (opposite["low"], opposite["high"]) == pytest.approx((-plain["high"], -plain["low"]), abs=1e-9)


def test_the_interval_of_a_few_pairs_covers_the_true_difference():
    random = np.random.default_rng(0)
    results = [paired_difference(random.normal(1, 1, 4), random.normal(0, 2, 4)) for _ in range(600)]
    covered = np.mean([result["low"] <= 1 <= result["high"] for result in results])
    assert 0.93 <= covered <= 0.97


@pytest.mark.parametrize(
    ("values", "reference", "message"),
    [
        ([], [], "no pairs"),
        ([1.0, 2.0], [1.0], "2 values and 1 references"),
        ([1.0, None], [1.0, 2.0], "is missing"),
    ],
)
def test_no_pairs_are_refused(values, reference, message):
    with pytest.raises(ValueError, match=message):
        paired_difference(values, reference)


def test_the_mean_over_seeds_is_that_of_pairs_with_nothing():
    expected = pytest.approx(paired_difference([1.2, 1.4, 1.9], [1.0, 1.0, 1.0]))
    assert mean_over([0.2, 0.4, 0.9]) == expected
    assert mean_over([0.5])["low"] is None


def test_correlation_is_of_ranks():
    x = np.array([1.0, 2, 3, 4])
    assert spearman(x, np.exp(x)) == pytest.approx(1)
    assert spearman(x, -(x**3)) == pytest.approx(-1)
    assert spearman(x, [1, 3, 2, 4]) == pytest.approx(0.8)  # 1 - 6 * 2 / (4 * 15)
    assert spearman(x, [0, 0, 1, 1]) == pytest.approx(2 / np.sqrt(5))


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=2, max_size=8), st.randoms(use_true_random=False))
def test_scale_and_order_of_points_do_not_matter(points, random):
    plain = spearman(*zip(*points, strict=True))
    random.shuffle(points)
    x, y = np.array(points).T
    again = spearman(4 * x, -2 * y)
    assert again is None if plain is None else again == pytest.approx(-plain, abs=1e-9)


def test_what_has_no_order_has_no_correlation():
    assert spearman([1, 1, 1], [1, 2, 3]) is None
    assert spearman([], []) is None


def test_points_that_do_not_fit_are_refused():
    with pytest.raises(ValueError):
        spearman([1, 2, 3], [1, 2])
    with pytest.raises(ValueError, match="without nan"):
        spearman([1, np.nan], [1, 2])


def test_summary():
    assert summary([1.0, 2.0, 3.0]) == {"mean": 2.0, "std": 1.0, "n": 3}
    assert summary([4.0]) == {"mean": 4.0, "std": None, "n": 1}
    with pytest.raises(ValueError, match="no values"):
        summary([])
