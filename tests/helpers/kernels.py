"""Functions whose kernels are small, and the kernels by plain torch."""

from functools import cache

import torch
from torch import Tensor, nn
from torch.func import jacrev, vmap

from ntkcl.analysis.learner_functions import Logits, Scores
from ntkcl.methods.learner import Learner
from ntkcl.ntk import Outputs, of_module
from tests.helpers.learners import finetuning, learn, ntk_cl, task_images

TINY, AMPLE = 1, 1 << 30  # bytes


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
