"""The terms of NTK-CL's loss against their formulas, written out naively."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from ntkcl.methods.ntk_cl.losses import info_nce, leading_directions


def naive_info_nce(features, labels, temperature):
    rows, n = F.normalize(features, dim=1), range(len(features))
    similarity = [[math.exp(float(rows[i] @ rows[j]) / temperature) for j in n] for i in n]
    pairs = sum(similarity[i][j] for i in n for j in n if i != j and labels[i] == labels[j])
    others = [math.log(sum(similarity[i][j] for j in n if j != i)) for i in n]
    return -math.log(pairs) + sum(others) / len(rows)


@given(st.lists(st.integers(0, 3), min_size=2, max_size=8), st.integers(0, 10_000))
def test_info_nce_is_the_formula(labels, seed):
    features = torch.randn(len(labels), 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    features.requires_grad_()
    value = info_nce(features, torch.tensor(labels), 0.5)
    value.nan_to_num().backward()
    assert features.grad.isfinite().all()
    if len(set(labels)) == len(labels):
        assert value.isnan()
        assert (features.grad == 0).all()
    else:
        assert value.item() == pytest.approx(naive_info_nce(features.detach(), labels, 0.5), rel=1e-9, abs=1e-9)


def test_info_nce_of_one_row_is_undefined():
    features = torch.randn(1, 5, requires_grad=True)
    info_nce(features, torch.tensor([0]), 0.1).nan_to_num().backward()
    assert (features.grad == 0).all()


@given(st.integers(0, 12), st.integers(1, 8), st.integers(0, 1000))
def test_remainder_is_orthogonal_to_leading_directions(classes, most, seed):
    prototypes = torch.randn(classes, 10, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    directions = leading_directions(prototypes, most)
    remainder = 1 - directions @ directions.sum(0)
    if classes == 0:
        assert torch.equal(remainder, torch.ones(10, dtype=torch.float64))
    if 0 < classes <= most:
        assert (prototypes @ remainder).abs().max() < 1e-10
    basis = torch.linalg.svd(F.normalize(prototypes, dim=1).T)[0][:, : min(most, classes)]
    explicit = torch.eye(10, dtype=torch.float64) - basis @ basis.T
    feature = torch.arange(10.0, dtype=torch.float64)
    assert (feature @ remainder).item() == pytest.approx((explicit @ feature).sum().item(), abs=1e-9)
