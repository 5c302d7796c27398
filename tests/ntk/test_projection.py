"""The tangent kernel by random projection: its bound, its mean and its signs."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ntkcl.ntk import projected_kernel, projection_error
from ntkcl.ntk.projection import Signs
from tests.helpers.kernels import (
    TINY,
    by_torch,
    close,
    mlp,
    of_learner,
    sum_over_classes,
)
from tests.helpers.learners import finetuning


def test_projection_is_within_its_bound_in_nearly_all_draws(case):
    """All entries at once; the bound may fail in 1 of 20 draws, and is far from doing so."""
    parameters, outputs, expected = case
    worst = []
    for seed in range(20 if len(parameters) < 10 else 3):  # a learner's take long
        estimate = projected_kernel(parameters, outputs, dimension=500, seed=seed, failure=0.05)
        worst.append(float(((estimate.kernel - expected).abs() / estimate.error).max()))
    assert sum(ratio > 1 for ratio in worst) <= 1
    assert max(worst) > 0.05  # nor does it say nothing
    estimate = projected_kernel(parameters, outputs, summed=True, dimension=500)
    assert ((estimate.kernel - sum_over_classes(expected)).abs() <= estimate.error).all()


def test_projection_has_the_kernel_as_its_mean():
    parameters, outputs = mlp(inputs=3)
    exact = by_torch(parameters, outputs)
    draws = torch.stack([projected_kernel(parameters, outputs, dimension=200, seed=seed).kernel for seed in range(150)])
    spread = draws.std(0) / math.sqrt(len(draws))
    assert ((draws.mean(0) - exact).abs() <= 5 * spread + 1e-12).all()


def test_projection_of_different_sides_and_functions(different_sides):
    parameters, scores, logits, expected = different_sides
    estimate = projected_kernel(parameters, scores, logits, dimension=2000, memory=TINY)
    assert ((estimate.kernel - expected).abs() <= estimate.error).all()


def test_projection_follows_from_its_seed():
    parameters, outputs = of_learner(finetuning)
    first, again, other = (projected_kernel(parameters, outputs, dimension=900, seed=s).kernel for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)
    frugal = projected_kernel(parameters, outputs, dimension=900, seed=0, memory=TINY).kernel
    assert close(frugal, first)


@given(height=st.integers(1, 50), width=st.integers(1, 40), seed=st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_signs_are_signs(height, width, seed):
    signs = torch.cat(list(Signs({"a": height, "b": 2}, width, seed).slices()))
    assert signs.shape == (height + 2, width)
    assert (signs.abs() == 1).all()


def test_signs_are_balanced_and_independent():
    signs = torch.cat(list(Signs({"a": 20_000}, 24, 0).slices())).double()
    assert ((signs.T @ signs / len(signs) - torch.eye(24)).abs() < 5 / math.sqrt(len(signs))).all()
    assert (signs.mean(0).abs() < 5 / math.sqrt(len(signs))).all()


def test_the_projections_error_solves_its_equation():
    eps = projection_error(4096, 1000, 0.01)
    assert 4 * 1000 * math.exp(-4096 * (eps**2 / 4 - eps**3 / 6)) == pytest.approx(0.01, rel=1e-6)
    with pytest.raises(ValueError, match="take 155 or more"):
        projection_error(100, 1000, 0.01)
    assert projection_error(155, 1000, 0.01) < 1
