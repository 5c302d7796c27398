"""Numbers of parameters at ViT-B/16, CIFAR-100 in ten tasks, as the methods' papers and codes have them."""

import pytest

from ntkcl.bench.method_costs import parameters_of
from ntkcl.runs import resolve

HEAD = 100 * 769
COVARIANCES = 12 * (768**2 + 4**2)
ADAPTERS = 12 * (2 * 768 * 64 + 64 + 768)
SPACES = 12 * (768**2 + 2)
COUNTS = {  # trained by the last task (or the first), stored after the last, and kept for the next task
    "aper": (ADAPTERS + 10 * 768 + 1, ADAPTERS + 1 + 100 * 2 * 768, 0),
    "c_ada": (5 * 2 * 768 * 60 + HEAD, 10 * 5 * 2 * 768 * 60 + 5 * 2 * 2 * 768 + HEAD, 0),
    "ease": (ADAPTERS + 10 * 768 + 1, 10 * ADAPTERS + 10 * 768 + 1 + 100 * 10 * 768, 0),
    "inflora": (184_320 + 7_690, 10 * (184_320 + 92_160) + HEAD, SPACES),
    "ranpac": (ADAPTERS + 10 * 768 + 1, ADAPTERS + 1 + 10_000 * (768 + 100), 10_000 * (10_000 + 100)),
    "coda_prompt": (384_000 + HEAD, 3_840_000 + HEAD, 0),
    "cprompt": (76_800 + 2 * 10 * 769 + 100 * 768, 10 * 76_800 + HEAD + 10 * 769 + 100 * 768, 0),
    "dualprompt": (15_360 + 230_400 + 7_680 + HEAD, 15_360 + 230_400 + 7_680 + HEAD, 0),
    "evoprompt": (884_736 + HEAD, 884_736 + HEAD + 46_272 + 100 * 768, 0),
    "l2p": (10 * 5 * 768 + 10 * 768 + HEAD, 10 * 5 * 768 + 10 * 768 + HEAD, 0),
    "l2p_pgp": (46_080 + HEAD, 46_080 + HEAD, 2 * 768**2),
    "ovor": (107_520 + HEAD, 107_520 + HEAD, 0),
    "simplecil": (0, 100 * 768, 0),
    "vpt_nsp": (12 * 4 * 768 + 10 * 769, 12 * 4 * 768 + HEAD, COVARIANCES),
}


@pytest.mark.parametrize("method", COUNTS)
def test_parameters(method):
    found = parameters_of(resolve("cifar100", "vit_b16_in21k", method, 0))
    assert (found.trained, found.stored, found.for_next_task) == COUNTS[method]
