"""A pool of prompts with keys: each image takes the prompts whose keys are nearest to its query, as in L2P."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ntkcl.devices import distributed
from ntkcl.devices.compute import autocast

SMALLEST_NORM = 1e-6  # of vectors that are divided by their norm


class PromptPool(nn.Module):
    """Prompts and their keys, both from U(-1, 1) at first.

    Args:
        size: number M of prompts.
        length: number of tokens of a prompt.
        dim: width d of the tokens.
    """

    def __init__(self, size: int, length: int, dim: int) -> None:
        super().__init__()
        self.prompts = nn.Parameter(torch.empty(size, length, dim).uniform_(-1, 1))
        self.keys = nn.Parameter(torch.empty(size, dim).uniform_(-1, 1))

    def similarity(self, queries: Tensor) -> Tensor:
        """The cosines (B, M) of queries (B, d) and keys."""
        return cosines(queries, self.keys)


def cosines(queries: Tensor, keys: Tensor) -> Tensor:
    """The cosines (B, M) of queries (B, d) and keys (M, d), in full precision, also under autocast."""
    with autocast(queries.device, False):
        return F.normalize(queries, dim=1, eps=SMALLEST_NORM) @ F.normalize(keys, dim=1, eps=SMALLEST_NORM).T


def most_voted(choices: Tensor, size: int) -> Tensor:
    """The prompts (k,) that are the choice of most images of the batch, of all processes together.

    Args:
        choices: (B, k), the prompts that each image chooses; B may be this process's shard.
        size: number of prompts of the pool.
    """
    return distributed.all_reduce_sum(choices.flatten().bincount(minlength=size)).topk(choices.shape[1])[1]
