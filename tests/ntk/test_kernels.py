"""The tangent kernel: three ways to the same numbers."""

import math
from functools import cache
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import jacrev, vmap

from ntkcl.analysis.learner_functions import Logits, Scores
from ntkcl.methods.learner import Learner
from ntkcl.ntk import Outputs, blocks, kernel, kernel_product, of_module, projected_kernel, projection_error
from ntkcl.ntk.jacobian import plan, rows_of
from ntkcl.ntk.matvec import step_of
from ntkcl.ntk.projection import Signs
from ntkcl.ntk.structure import structure_of
from tests.helpers.learners import finetuning, learn, ntk_cl, task_images

TINY, AMPLE = 1, 1 << 30  # bytes
METHODS = ("jacobian", "matvec")


def by_torch(parameters, left: Outputs, right: Outputs | None = None) -> Tensor:
    """The full kernel by plain torch.func."""
    rows = [plain_jacobian(parameters, outputs) for outputs in (left, right or left)]
    return torch.einsum("acp,bdp->acbd", *rows)


def plain_jacobian(parameters, outputs: Outputs) -> Tensor:
    """(N, C, P)."""

    def of_one(parameters, *inputs):
        return Outputs(outputs.function, tuple(x[None] for x in inputs)).at(parameters)[0]

    jacobian = vmap(jacrev(of_one), (None, *(0 for _ in outputs.inputs)))(parameters, *outputs.inputs)
    return torch.cat([part.flatten(2) for part in jacobian.values()], 2)


def sum_over_classes(full: Tensor) -> Tensor:
    return torch.einsum("acbc->ab", full)


def close(values: Tensor, expected: Tensor) -> bool:
    bound = 1e-8 * float(expected.abs().max())
    return values.shape == expected.shape and float((values - expected).abs().max()) <= bound


def mlp(inputs: int = 3) -> tuple[dict[str, Tensor], Outputs]:
    torch.manual_seed(3)
    module = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    return of_module(module, (torch.randn(inputs, 4, dtype=torch.float64),))


@cache
def learned(make) -> Learner:
    """A learner after three tasks, with random values (where some parameters would be zero and have no effect)."""
    learner = make(depth=2)
    learn(learner, sizes=(1, 2, 2))
    torch.manual_seed(4)
    for parameter in learner.trained_parameters():
        nn.init.normal_(parameter, std=0.3)
    return learner.eval()


def of_learner(make, proxies: bool = False) -> tuple[dict[str, Tensor], Outputs]:
    """Scores of five classes, or the logits of the last task's two, for three images."""
    learner = learned(make)
    inputs = learner.frozen_forward(task_images(range(3), per_class=1).images)
    return of_module((Logits if proxies else Scores)(learner), inputs)


CASES = {"mlp": mlp, "ntk_cl": lambda: of_learner(ntk_cl), "finetuning": lambda: of_learner(finetuning)}


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


def test_of_a_linear_map_it_is_the_gram_matrix():
    x, y = torch.randn(4, 3, dtype=torch.float64), torch.randn(2, 3, dtype=torch.float64)
    parameters, left = of_module(nn.Linear(3, 2).double(), (x,))
    right = Outputs(left.function, (y,))
    expected = (x @ y.T + 1)[:, None, :, None] * torch.eye(2, dtype=torch.float64)[:, None]
    for method in METHODS:
        assert close(kernel(parameters, left, right, method=method), expected)
        assert close(kernel(parameters, left, right, method=method, summed=True), 2 * (x @ y.T + 1))


def test_of_two_layers_by_hand():
    """f(x) = v . tanh(W x): K = tanh(Wx) . tanh(Wx') + (x . x') sum of v^2 tanh'(Wx) tanh'(Wx')."""
    w, v, x = (torch.randn(*shape, dtype=torch.float64) for shape in ((5, 3), (5,), (4, 3)))
    outputs = Outputs(lambda p, inputs: (F.linear(inputs[0], p["w"]).tanh() @ p["v"])[:, None], (x,))
    hidden = (x @ w.T).tanh()
    slopes = v * (1 - hidden**2)
    expected = hidden @ hidden.T + (x @ x.T) * (slopes @ slopes.T)
    for method in METHODS:
        assert close(kernel({"w": w, "v": v}, outputs, method=method, summed=True), expected)


@pytest.mark.parametrize(
    ("method", "memory"), [("jacobian", TINY), ("jacobian", 300_000), ("jacobian", AMPLE), ("matvec", TINY)]
)
@pytest.mark.parametrize("summed", [False, True])
def test_agrees_with_plain_torch_within_any_memory(case, method, memory, summed):
    parameters, outputs, expected = case
    expected = sum_over_classes(expected) if summed else expected
    assert close(kernel(parameters, outputs, summed=summed, method=method, memory=memory), expected)


@pytest.mark.parametrize(("method", "memory"), [("jacobian", TINY), ("jacobian", AMPLE), ("matvec", AMPLE)])
def test_left_and_right_can_be_other_inputs(case, method, memory):
    parameters, outputs, expected = case
    for summed, left, right in ((False, slice(0, 1), slice(1, 3)), (True, slice(1, 3), slice(0, 2))):
        values = kernel(parameters, outputs[left], outputs[right], summed=summed, method=method, memory=memory)
        part = expected[left][:, :, right]
        assert close(values, sum_over_classes(part) if summed else part)


@pytest.mark.parametrize("method", METHODS)
def test_it_is_symmetric_and_positive_semidefinite(case, method):
    parameters, outputs, _ = case
    values = kernel(parameters, outputs, method=method).flatten(2).flatten(0, 1)
    assert close(values, values.T)
    assert torch.linalg.eigvalsh(values).min() > -1e-9 * values.diagonal().max()


@pytest.mark.parametrize(("method", "memory"), [("jacobian", TINY), ("jacobian", AMPLE), ("matvec", AMPLE)])
def test_left_and_right_can_be_other_functions(different_sides, method, memory):
    parameters, scores, logits, expected = different_sides
    assert expected.shape == (3, 5, 2, 2)
    assert close(kernel(parameters, scores, logits, method=method, memory=memory), expected)
    with pytest.raises(ValueError, match="5 outputs on the left, 2 on the right"):
        kernel(parameters, scores, logits, method=method, summed=True)
    alike = Outputs(lambda p, inputs: scores.function(p, inputs)[:, :2], scores.inputs)
    values = kernel(parameters, alike, logits, method=method, memory=memory, summed=True)
    assert close(values, sum_over_classes(expected[:, :2]))


def weights(*names: str) -> dict[str, Tensor]:
    return {name: torch.randn(4, 4, dtype=torch.float64) for name in names}


USES = {
    "twice": lambda p, x: F.linear(F.linear(x, p["w"]).tanh(), p["w"]),
    "and normalized": lambda p, x: F.linear(x, p["w"]) + x @ F.normalize(p["w"], dim=1),
    "and in a norm": lambda p, x: F.linear(x, p["w"]) * p["w"].norm(),
    "through a copy without gradient": lambda p, x: F.linear(x, p["w"]).tanh() @ p["w"].detach(),
    "without gradient, then with": lambda p, x: F.linear(x, p["w"]).detach() * (x @ p["w"]),
    "as input and weight": lambda p, x: F.linear(p["w"][:1], p["w"]) + x,
    "on several rows": lambda p, x: F.linear(torch.stack((x, x**2), 1), p["w"]).prod(1),
    "on one row of three dimensions": lambda p, x: F.linear(x[:, None], p["w"]).sin()[:, 0],
    "as bias and weight": lambda p, x: F.linear(x, p["w"], p["w"][0]).tanh(),
    "by name": lambda p, x: F.linear(input=x, weight=p["w"], bias=None).tanh(),
    "not at all": lambda p, x: x * p["v"][0],
}
DIRECT = {"through a copy without gradient", "on one row of three dimensions", "by name"}


@pytest.mark.parametrize("use", USES)
def test_a_weight_used_in_any_way_counts_rightly(use):
    torch.manual_seed(1)
    parameters, x = weights("w", "v"), torch.randn(3, 4, dtype=torch.float64)
    outputs = Outputs(lambda p, inputs: USES[use](p, inputs[0]), (x,))
    structure = structure_of(parameters, outputs)
    assert ("w" in structure.direct) == (use in DIRECT)
    expected = by_torch(parameters, outputs)
    for method in METHODS:
        assert close(kernel(parameters, outputs, method=method), expected)


def test_a_weight_can_be_direct_on_one_side_alone():
    torch.manual_seed(1)
    parameters, x = weights("w"), torch.randn(3, 4, dtype=torch.float64)
    left, right = (Outputs(lambda p, inputs, f=USES[use]: f(p, inputs[0]), (x,)) for use in ("by name", "twice"))
    for sides in ((left, right), (right, left)):
        expected = by_torch(parameters, *sides)
        assert all(close(kernel(parameters, *sides, method=method), expected) for method in METHODS)


def test_two_names_of_one_tensor_are_two_parameters():
    torch.manual_seed(1)
    weight, x = torch.randn(4, 4, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64)
    parameters = {"v": weight, "w": weight}
    outputs = Outputs(lambda p, inputs: F.linear(F.linear(inputs[0], p["v"]).tanh(), p["w"]), (x,))
    assert close(kernel(parameters, outputs), by_torch(parameters, outputs))


def test_large_weights_are_not_written_out_and_unused_parameters_cost_nothing():
    parameters, outputs = of_learner(ntk_cl)
    structure = structure_of(parameters, outputs)
    assert {f"learner.fusion.{name}.weight" for name in ("query", "key", "value")} <= structure.direct.keys()
    assert not [name for name in structure.ordinary.keys() | structure.direct.keys() if "proxies" in name]
    rows = rows_of(parameters, outputs, structure, at_once=structure.classes)
    assert sum(tensor.nbytes for tensor in rows.tensors()) == len(outputs) * structure.row_bytes()
    zero = list(structure.direct).index("learner.fusion.key.weight")
    assert (rows.direct[zero][0] == 0).all()


@pytest.mark.parametrize("memory", [10**5, 10**6, 10**7])
def test_plans_keep_to_the_memory(memory):
    structure = structure_of(*of_learner(ntk_cl))
    least, chosen = plan(structure, TINY), plan(structure, memory)
    assert (least.step, least.outputs) == (1, 1)
    assert chosen.taken <= max(memory // 2, least.taken)
    assert step_of(structure, TINY) == 1 <= step_of(structure, memory)


def test_product_with_a_vector(case):
    parameters, outputs, expected = case
    vector = torch.randn(2, expected.shape[3], dtype=torch.float64)
    for memory in (TINY, AMPLE):
        values = kernel_product(parameters, outputs, outputs[:2], vector, memory=memory)
        assert close(values, torch.einsum("acbd,bd->ac", expected[:, :, :2], vector))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("right", [None, slice(0, 2)])
def test_progress_ends_with_the_whole(method, right):
    told, (parameters, outputs) = [], mlp()
    other = None if right is None else outputs[right]
    kernel(parameters, outputs, other, method=method, memory=TINY, progress=lambda *counts: told.append(counts))
    assert len(told) > 1
    assert told[-1][0] == told[-1][1]
    assert all(before[0] < after[0] for before, after in pairwise(told))


def test_blocks_between_tasks():
    values = torch.arange(5 * 2 * 3 * 2).view(5, 2, 3, 2)
    cut = blocks(values, [2, 3], [1, 2])
    assert torch.equal(cut[1][0], values[2:, :, :1])
    assert torch.equal(blocks(values[:, 0, :, 0], [2, 3], [1, 2])[0][1], values[:2, 0, 1:, 0])
    square = torch.randn(5, 5)
    assert torch.equal(torch.cat([torch.cat(row, 1) for row in blocks(square, [1, 4])]), square)


def test_wrong_functions_and_inputs_are_told():
    x = torch.randn(3, 4)
    with pytest.raises(ValueError, match=r"shape \(1,\) for one input"):
        kernel({"w": torch.randn(4)}, Outputs(lambda p, inputs: inputs[0] @ p["w"], (x,)))
    with pytest.raises(ValueError, match=r"these have \[3, 2\]"):
        Outputs(lambda p, inputs: inputs[0], (x, x[:2]))


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
