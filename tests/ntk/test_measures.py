"""The measures of kernels and features: closed forms, and what no change of scale, order or basis may alter."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ntkcl.ntk import measures

SEEDS = st.integers(0, 2**16)


def normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gram(seed, n, rank):
    features = normal(seed, n, rank)
    return features @ features.T


def rotation(seed, n):
    return torch.linalg.qr(normal(seed, n, n))[0]


def test_spectrum_is_descending_and_never_negative():
    basis = rotation(0, 4)
    values = torch.tensor([1.0, -1e-17, 5.0, 0.0], dtype=torch.float64)
    spectrum = measures.spectrum(basis @ values.diag() @ basis.T)
    torch.testing.assert_close(spectrum, torch.tensor([5.0, 1.0, 0.0, 0.0], dtype=torch.float64))
    assert (spectrum >= 0).all()
    assert measures.spectrum(torch.eye(3, dtype=torch.float32)).dtype == torch.float64


def test_effective_dimension_closed_forms():
    ones = torch.ones(6, dtype=torch.float64)
    assert measures.effective_dimension(torch.eye(6), 0.5) == pytest.approx(6 / 1.5)
    assert measures.effective_dimension(torch.outer(ones, ones), 2.0) == pytest.approx(6 / 8)
    with pytest.raises(ValueError, match="above 0"):
        measures.effective_dimension(torch.eye(6), 0)


@settings(deadline=None)
@given(SEEDS, st.integers(2, 12), st.integers(1, 12), st.floats(1e-3, 1e3), st.floats(1.01, 100))
def test_effective_dimension_is_between_0_and_the_rank_and_falls_with_the_ridge(seed, n, rank, ridge, factor):
    kernel = gram(seed, n, rank)
    value = measures.effective_dimension(kernel, ridge)
    assert 0 < value < min(n, rank) + 1e-9
    assert measures.effective_dimension(kernel, ridge * factor) < value
    assert measures.effective_dimension(kernel * factor, ridge * factor) == pytest.approx(value)
    inverse = torch.linalg.inv(kernel + ridge * torch.eye(n))
    assert value == pytest.approx((kernel @ inverse).trace().item(), rel=1e-6)


def test_relative_change():
    kernel = gram(1, 5, 3)
    assert measures.relative_change(kernel, kernel) == 0
    assert measures.relative_change(3 * kernel, kernel) == pytest.approx(2)
    assert measures.relative_change(kernel, 0 * kernel) == math.inf
    assert math.isnan(measures.relative_change(0 * kernel, 0 * kernel))


@settings(deadline=None)
@given(SEEDS, st.integers(3, 10), st.floats(1e-3, 1e3))
def test_alignment_ignores_scale_common_offset_and_order(seed, n, scale):
    kernel, other = gram(seed, n, 3), gram(seed + 1, n, 4)
    value = measures.alignment(kernel, other)
    assert -1e-12 <= value <= 1
    assert measures.alignment(other, kernel) == pytest.approx(value)
    # moving all features by one vector adds a term constant in each row or column: centring takes it out
    shift = normal(seed + 2, n)
    assert measures.alignment(scale * kernel + shift[:, None] + shift, other) == pytest.approx(value, abs=1e-6)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    assert measures.alignment(kernel[order][:, order], other[order][:, order]) == pytest.approx(value)


def test_alignment_closed_forms():
    labels = torch.tensor([1.0, 1, -1, -1], dtype=torch.float64)
    crossed = torch.tensor([1.0, -1, 1, -1], dtype=torch.float64)
    target = torch.outer(labels, labels)
    assert measures.alignment(7 * target + 3, target) == pytest.approx(1)
    assert measures.alignment(-target, target) == pytest.approx(-1)
    assert measures.alignment(torch.outer(crossed, crossed), target) == pytest.approx(0)
    assert measures.alignment(torch.eye(4), target) == pytest.approx(1 / math.sqrt(3))  # HH^T has three eigenvalues 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_alignment_of_a_kernel_that_tells_nothing_apart_is_undefined(dtype):
    kernel = gram(0, 7, 7)
    assert math.isnan(measures.alignment(torch.zeros(7, 7, dtype=dtype), kernel))
    assert math.isnan(measures.alignment(torch.full((7, 7), 0.1, dtype=dtype), kernel))
    offsets = torch.linspace(0.1, 0.7, 7, dtype=dtype)
    assert math.isnan(measures.alignment(offsets[:, None] + offsets, kernel))


@settings(deadline=None)
@given(SEEDS, st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(1, 6), st.floats(1e-3, 1e3))
def test_couplings_are_within_0_and_1_and_ignore_the_scale_of_each_task(seed, sizes, rank, scale):
    kernel = gram(seed, sum(sizes), rank)
    values = measures.couplings(kernel, sizes)
    assert values.shape == (len(sizes), len(sizes))
    assert (values >= 0).all() and (values <= 1 + 1e-12).all()
    torch.testing.assert_close(values, values.T)
    torch.testing.assert_close(values.diagonal(), torch.ones(len(sizes), dtype=torch.float64))
    weights = torch.ones(sum(sizes), dtype=torch.float64)
    weights[: sizes[0]] = scale
    torch.testing.assert_close(measures.couplings(kernel * torch.outer(weights, weights), sizes), values)


def test_couplings_of_known_gradients():
    first, angle = torch.eye(3, dtype=torch.float64)[:1], 0.3
    turned = torch.tensor([[math.cos(angle), math.sin(angle), 0]] * 2, dtype=torch.float64)
    orthogonal = torch.eye(3, dtype=torch.float64)[2:]
    gradients = torch.cat([first, turned, orthogonal])
    values = measures.couplings(gradients @ gradients.T, [1, 2, 1])
    expected = torch.eye(3, dtype=torch.float64)
    expected[0, 1] = expected[1, 0] = math.cos(angle)
    torch.testing.assert_close(values, expected)


def test_coupling_is_1_for_the_same_directions_with_other_images_and_undefined_for_none():
    gradients = normal(3, 4, 6)
    other = 2 * rotation(4, 4) @ gradients
    kernel = torch.cat([gradients, other]) @ torch.cat([gradients, other]).T
    assert measures.coupling(kernel[:4, 4:], kernel[:4, :4], kernel[4:, 4:]) == pytest.approx(1)
    assert math.isnan(measures.coupling(torch.zeros(4, 2), gradients @ gradients.T, torch.zeros(2, 2)))


def test_couplings_need_the_sizes_of_the_kernel():
    with pytest.raises(ValueError, match="not over the 5 images"):
        measures.couplings(torch.eye(4), [2, 3])


def planes(angles, seed):
    """Features of two tasks whose leading directions have the given principal angles, in a random basis."""
    count = len(angles)
    basis = torch.linalg.qr(normal(seed, 2 * count + 1, 2 * count + 1))[0][:, : 2 * count]
    angles = torch.tensor(angles, dtype=torch.float64)
    turned = basis[:, :count] * angles.cos() + basis[:, count:] * angles.sin()
    return normal(seed + 1, 6, count) @ basis[:, :count].T, normal(seed + 2, 9, count) @ turned.T


@pytest.mark.parametrize("angles", [[0.0, 0.0], [1e-9, 1e-5, 0.4], [0.1, 0.7, 0.9], [0.2, math.pi / 2 - 1e-9]])
def test_principal_angles_are_those_built_in(angles):
    first, second = planes(angles, 5)
    expected = torch.tensor(angles, dtype=torch.float64)
    torch.testing.assert_close(measures.principal_angles(first, second, len(angles)), expected, rtol=0, atol=1e-12)


@settings(deadline=None)
@given(SEEDS, st.integers(1, 4), st.floats(1e-3, 1e3))
def test_principal_angles_ignore_order_mean_scale_and_basis_of_features(seed, dimension, scale):
    features, other = normal(seed, 9, 6), normal(seed + 1, 7, 6)
    angles = measures.principal_angles(features, other, dimension)
    assert (angles.diff() >= 0).all() and angles[0] >= 0 and angles[-1] <= math.pi / 2 + 1e-12
    assert 0 <= measures.overlap(angles) <= 1
    turn = rotation(seed + 2, 6)
    moved = scale * features[torch.randperm(9)] @ turn + 100 * normal(seed + 3, 6)
    torch.testing.assert_close(measures.principal_angles(moved, other @ turn, dimension), angles, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(measures.principal_angles(other, features, dimension), angles)


def test_overlap_is_the_mean_squared_cosine():
    assert measures.overlap(torch.tensor([0.0, math.pi / 3, math.pi / 2])) == pytest.approx((1 + 0.25) / 3)
    features = normal(0, 8, 5)
    assert measures.overlap(measures.principal_angles(features, 3 * features, 4)) == pytest.approx(1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_principal_angles_need_a_span(dtype):
    features = torch.ones(6, 4, dtype=dtype) / 3
    features[0, 0] = 2
    assert measures.principal_angles(features, features, 1).item() == pytest.approx(0, abs=1e-12)
    for dimension in (0, 2):
        with pytest.raises(ValueError, match="to the rank of the centered features, 1,"):
            measures.principal_angles(features, features, dimension)
    with pytest.raises(ValueError, match="width 4 and 3"):
        measures.principal_angles(features, features[:, 1:], 1)
