"""Kernel ridge regression: closed forms, and forecasts against gradient descent on models linear in their weights."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ntkcl.ntk import ridge as krr

SEEDS = st.integers(0, 2**16)
RIDGES = st.sampled_from([0.0, 1e-3, 0.1, 10.0])


def normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_terms_of_the_identity_kernel():
    targets = normal(0, 5)
    scale = targets.norm().item() / math.sqrt(5)
    assert krr.complexity(torch.eye(5), targets, 0.5) == pytest.approx(scale / 1.5)
    assert krr.complexity(torch.eye(5), targets, 0) == pytest.approx(scale)
    assert krr.rademacher(torch.eye(5), targets, 0.5) == pytest.approx(scale / 1.5)  # Tr K = n
    assert krr.training_error(torch.eye(5), targets, 0.5) == pytest.approx(0.5 * scale / 1.5)
    assert krr.training_error(torch.eye(5), targets, 0) == pytest.approx(0, abs=1e-12)


def test_terms_of_a_kernel_of_rank_one():
    direction, targets = torch.tensor([3.0, 4.0]), torch.tensor([5.0, 0.0])
    kernel = torch.outer(direction, direction)  # eigenvalue 25; the targets lie 3 along and 4 across it
    assert krr.complexity(kernel, targets, 0) == pytest.approx(3 / 5 / math.sqrt(2))
    assert krr.complexity(kernel, targets, 5.0) == pytest.approx(3 * 5 / 30 / math.sqrt(2))
    assert krr.rademacher(kernel, targets, 0) == pytest.approx(3 / 5 * 5 / 2)
    assert krr.training_error(kernel, targets, 0) == pytest.approx(4 / math.sqrt(2))
    assert krr.training_error(kernel, targets, 5.0) == pytest.approx(math.hypot(4, 3 * 5 / 30) / math.sqrt(2))


@settings(deadline=None)
@given(SEEDS, st.integers(2, 8), st.integers(1, 8), st.integers(1, 3), RIDGES)
def test_complexity_is_the_norm_of_the_linear_predictor(seed, n, width, outputs, ridge):
    features, targets = normal(seed, n, width), normal(seed + 1, n, outputs)
    penalized = torch.cat([features, math.sqrt(ridge) * torch.eye(width)])
    padded = torch.cat([targets, torch.zeros(width, outputs)])
    weights = torch.linalg.pinv(penalized) @ padded  # least squares with weight decay, in the weights
    kernel = features @ features.T
    norm = weights.norm().item()
    assert krr.complexity(kernel, targets, ridge) == pytest.approx(norm / math.sqrt(n), rel=1e-5)
    trace = features.square().sum().item()
    assert krr.rademacher(kernel, targets, ridge) == pytest.approx(norm * math.sqrt(trace) / n, rel=1e-5)
    error = (targets - features @ weights).norm().item() / math.sqrt(n)
    assert krr.training_error(kernel, targets, ridge) == pytest.approx(error, rel=1e-5, abs=1e-6)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    permuted = krr.complexity(kernel[order][:, order], targets[order], ridge)
    assert permuted == pytest.approx(norm / math.sqrt(n), rel=1e-5)


@given(SEEDS)
def test_complexity_falls_and_the_error_grows_with_the_ridge(seed):
    features, targets = normal(seed, 6, 4), normal(seed + 1, 6, 2)
    kernel = features @ features.T
    steps = [0.0, 1e-3, 1e-1, 1.0, 100.0]
    norms = [krr.complexity(kernel, targets, ridge) for ridge in steps]
    errors = [krr.training_error(kernel, targets, ridge) for ridge in steps]
    assert norms == sorted(norms, reverse=True)
    assert errors == sorted(errors)


def test_rounding_errors_of_a_float32_kernel_are_not_inverted():
    features, targets = normal(0, 40, 3).float(), normal(1, 40)
    exact = krr.complexity(features.double() @ features.double().T, targets, 0)
    assert krr.complexity(features @ features.T, targets, 0) == pytest.approx(exact, rel=1e-4)


def test_interplay_is_the_root_mean_square_of_the_forecast():
    old, new, residual = normal(0, 4, 6), normal(1, 5, 6), normal(2, 5, 3)
    shared, between = new @ new.T, old @ new.T
    outputs = torch.eye(3, dtype=torch.float64)
    for ridge in (0.0, 0.3):
        full = krr.forecast(torch.kron(between, outputs), torch.kron(shared, outputs), residual, ridge, old_outputs=3)
        expected = full.square().sum(1).mean().sqrt().item()
        assert krr.interplay(between, shared, residual, ridge) == pytest.approx(expected)
    assert krr.interplay(0 * between, shared, residual, 0.3) == 0


def descend(start, features, readout, targets, decay):
    """W (width, hidden) where gradient descent on 1/2 ||features W readout - Y||^2 + decay/2 ||W - start||^2 ends."""
    step = 1 / (torch.linalg.matrix_norm(features, 2) ** 2 * torch.linalg.matrix_norm(readout, 2) ** 2 + decay)
    weights = start.clone()
    for _ in range(50_000):
        gradient = features.T @ (features @ weights @ readout - targets) @ readout.T + decay * (weights - start)
        weights -= step * gradient
        if gradient.norm() < 1e-8:
            return weights
    raise AssertionError("gradient descent has not converged")


def with_bias(features):
    return torch.cat([features, features.new_ones(len(features), 1)], 1)


@pytest.mark.parametrize("decay", [0.0, 0.7])
@pytest.mark.parametrize(("new_images", "width"), [(8, 40), (40, 6)], ids=["over-parameterized", "over-determined"])
@pytest.mark.parametrize("head", ["plain", "shared"])
def test_forecast_is_exact_where_the_model_is_linear_in_what_is_trained(head, new_images, width, decay):
    old, new = (with_bias(normal(seed, n, width).relu()) for seed, n in ((0, 12), (1, new_images)))
    # plain: all outputs are trained. shared: the trained part is followed by fixed rows for 2 old and 4 new classes
    readouts = {"plain": [torch.eye(3, dtype=torch.float64)] * 2, "shared": [normal(2, 3, 2), normal(3, 3, 4)]}
    old_readout, new_readout = readouts[head]
    start = descend(0 * normal(0, width + 1, 3), old, old_readout, normal(4, 12, old_readout.shape[1]), 0.1)
    targets = normal(5, new_images, new_readout.shape[1])
    trained = descend(start, new, new_readout, targets, decay)

    old_new = torch.kron(old @ new.T, old_readout.T @ new_readout)
    new_new = torch.kron(new @ new.T, new_readout.T @ new_readout)
    residual = targets - new @ start @ new_readout
    forecast = krr.forecast(old_new, new_new, residual, decay, old_outputs=old_readout.shape[1])
    change = old @ (trained - start) @ old_readout
    assert change.abs().mean() > 0.1
    torch.testing.assert_close(forecast, change, rtol=0, atol=1e-6)


def test_forecast_refuses_shapes_that_do_not_fit():
    residual = torch.zeros(2, 3)
    for old_new, new_new in [((4, 6), (5, 5)), ((4, 5), (6, 6)), ((5, 6), (6, 6))]:
        with pytest.raises(ValueError, match="do not match 2 old outputs"):
            krr.forecast(torch.zeros(old_new), torch.eye(new_new[0]), residual, 0.1, old_outputs=2)


def test_wrong_ridges_and_kernels_are_refused():
    with pytest.raises(ValueError, match="must not be negative"):
        krr.complexity(torch.eye(2), torch.ones(2), -1.0)
    with pytest.raises(torch.linalg.LinAlgError):
        krr.complexity(-torch.eye(2), torch.ones(2), 0.5)
