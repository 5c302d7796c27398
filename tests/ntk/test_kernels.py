"""The tangent kernel: exact ways to the same numbers."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ntkcl.ntk import Outputs, blocks, kernel, kernel_product, of_module
from ntkcl.ntk.jacobian import plan, rows_of
from ntkcl.ntk.matvec import step_of
from ntkcl.ntk.structure import structure_of
from tests.helpers.kernels import AMPLE, TINY, by_torch, close, mlp, of_learner, sum_over_classes
from tests.helpers.learners import ntk_cl

METHODS = ("jacobian", "matvec")


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
