"""The state of torch's generators, which all random numbers come from."""

import torch
from torch import Tensor


def random_state() -> dict[str, Tensor]:
    """Return the state of torch's generators on the CPU ("cpu") and, if this process uses one, on its GPU ("cuda")."""
    state = {"cpu": torch.get_rng_state()}
    return state | ({"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_initialized() else {})


def set_random_state(state: dict[str, Tensor]) -> None:
    """Set torch's generators to the result of `random_state`.

    Raises:
        KeyError: it is not among the tensors.
        RuntimeError: it is not the state of a generator.
    """
    torch.set_rng_state(state["cpu"])
    if torch.cuda.is_initialized() and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"])
