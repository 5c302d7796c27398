"""Intervals over runs: known values, and that dependent points do not pass for independent ones."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ntkcl.intervals import paired_difference, spearman

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


def points(runs, each, seed=0):
    """x and y that agree within a run only as far as the run's own level says, and the run of each point."""
    random = np.random.default_rng(seed)
    level = random.normal(size=(2, runs, 1)) + 0.1 * random.normal(size=(2, runs, each))
    x, y = level.reshape(2, -1)
    return x, x + y, np.repeat(np.arange(runs), each)


def test_correlation_is_of_ranks():
    x, clusters = np.array([1.0, 2, 3, 4]), [0, 0, 1, 1]
    assert spearman(x, np.exp(x), clusters)["correlation"] == pytest.approx(1)
    assert spearman(x, -(x**3), clusters)["correlation"] == pytest.approx(-1)
    assert spearman(x, [1, 3, 2, 4], clusters)["correlation"] == pytest.approx(0.8)  # 1 - 6 * 2 / (4 * 15)
    tied = spearman(x, [0, 0, 1, 1], clusters)["correlation"]
    assert tied == pytest.approx(2 / np.sqrt(5))


def test_the_seed_names_the_interval():
    x, y, runs = points(5, 4)
    first = spearman(x, y, runs, seed=3, draws=200)
    assert spearman(x, y, runs, seed=3, draws=200) == first
    assert spearman(x, y, runs, seed=4, draws=200) != first
    assert first["low"] < first["correlation"] < first["high"]
    assert (first["n"], first["clusters"]) == (20, 5)
    assert {type(value) for value in first.values()} == {float, int}


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_scale_and_order_of_points_do_not_matter(seed):
    x, y, runs = points(4, 3, seed)
    order = np.random.default_rng(seed).permutation(len(x))
    plain = spearman(x, y, runs, draws=50)
    assert spearman(np.exp(x)[order], 5 * y[order] - 2, runs[order], draws=50) == pytest.approx(plain)


def test_repeating_the_points_of_a_run_tells_nothing_new():
    x, y, runs = points(8, 1)
    once = spearman(x, y, runs, draws=300)
    repeated = spearman(np.repeat(x, 10), np.repeat(y, 10), np.repeat(runs, 10), draws=300)
    assert repeated == pytest.approx({**once, "n": 80})


def test_points_of_one_run_do_not_pass_for_independent():
    x, y, runs = points(6, 20)
    clustered = spearman(x, y, runs, draws=300)
    independent = spearman(x, y, np.arange(len(x)), draws=300)
    assert clustered["high"] - clustered["low"] > 2 * (independent["high"] - independent["low"])


def test_what_has_no_correlation_or_interval_is_none():
    nothing = {"correlation": None, "low": None, "high": None}
    assert spearman([1, 1, 1], [1, 2, 3], ["a", "b", "c"]) == {**nothing, "n": 3, "clusters": 3}
    assert spearman([], [], []) == {**nothing, "n": 0, "clusters": 0}
    assert spearman([1, 2, 3], [1, 2, 3], ["a"] * 3) == {
        "correlation": pytest.approx(1),
        "low": None,
        "high": None,
        "n": 3,
        "clusters": 1,
    }


def test_draws_of_one_constant_run_are_left_out():
    result = spearman([0, 0, 1, 1], [1, 2, 3, 4], ["a", "a", "b", "b"], draws=100)
    assert (result["low"], result["high"]) == pytest.approx((result["correlation"],) * 2)


def test_points_that_do_not_fit_are_refused():
    with pytest.raises(ValueError):
        spearman([1, 2, 3], [1, 2], [0, 1, 2])
    with pytest.raises(ValueError, match="equally long"):
        spearman([1, 2], [1, 2], [0])
    with pytest.raises(ValueError, match="no number missing"):
        spearman([1, np.nan], [1, 2], [0, 1])
