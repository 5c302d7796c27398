"""Numbers of parameters at ViT-B/16, CIFAR-100 in ten tasks, as the methods' papers and codes have them."""

import pytest

from ntkcl.bench.method_costs import parameters_of
from ntkcl.runs import resolve

HEAD = 100 * 769
COVARIANCES = 12 * (768**2 + 4**2)
COUNTS = {  # trained by the last task, stored after it
    "coda_prompt": (384_000 + HEAD, 3_840_000 + HEAD),
    "cprompt": (76_800 + 2 * 10 * 769 + 100 * 768, 10 * 76_800 + HEAD + 10 * 769 + 100 * 768),
    "dualprompt": (15_360 + 230_400 + 7_680 + HEAD, 15_360 + 230_400 + 7_680 + HEAD),
    "evoprompt": (884_736 + HEAD, 884_736 + HEAD + 46_272 + 100 * 768),
    "l2p": (10 * 5 * 768 + 10 * 768 + HEAD, 10 * 5 * 768 + 10 * 768 + HEAD),
    "l2p_pgp": (46_080 + HEAD, 46_080 + HEAD + 2 * 768**2),
    "ovor": (107_520 + HEAD, 107_520 + HEAD),
    "simplecil": (0, 100 * 768),
    "vpt_nsp": (12 * 4 * 768 + 10 * 769, 12 * 4 * 768 + HEAD + COVARIANCES),
}


@pytest.mark.parametrize("method", COUNTS)
def test_parameters(method):
    found = parameters_of(resolve("cifar100", "vit_b16_in21k", method, 0))
    assert (found.trained, found.stored) == COUNTS[method]
