"""Kernels that several tests compare with."""

import pytest

from tests.helpers.kernels import CASES, by_torch, of_learner
from tests.helpers.learners import ntk_cl


@pytest.fixture(scope="module", params=CASES)
def case(request):
    """Parameters, outputs and their kernel."""
    parameters, outputs = CASES[request.param]()
    return parameters, outputs, by_torch(parameters, outputs)


@pytest.fixture(scope="module")
def different_sides():
    """Parameters, scores of all tasks, logits of the last one, which have proxies of their own, and their kernel."""
    parameters, scores = of_learner(ntk_cl)
    logits = of_learner(ntk_cl, proxies=True)[1][:2]
    return parameters, scores, logits, by_torch(parameters, scores, logits)
