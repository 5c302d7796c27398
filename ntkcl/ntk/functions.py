"""Functions of parameters, as the kernels take them."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

Parameters = dict[str, Tensor]
"""Parameters by name. Those that a function does not depend on cost nothing."""


@dataclass(frozen=True)
class Outputs:
    """C outputs of a function of parameters at N inputs.

    Args:
        function: maps the parameters, and B rows of each input, to outputs (B, C). Each row of the outputs depends on
            its own row of the inputs only, without randomness (no dropout) and by the same operations for all rows.
        inputs: tensors with N rows each, on the parameters' device.

    Raises:
        ValueError: there is no input, or the numbers of rows differ.
    """

    function: Callable[[Parameters, tuple[Tensor, ...]], Tensor]
    inputs: tuple[Tensor, ...]

    def __post_init__(self) -> None:
        if len({len(rows) for rows in self.inputs}) != 1:
            raise ValueError(f"inputs need the same number of rows; these have {[len(rows) for rows in self.inputs]}")

    def __len__(self) -> int:
        return len(self.inputs[0])

    def __getitem__(self, rows: slice) -> "Outputs":
        """Return the same function at some of the inputs."""
        return Outputs(self.function, tuple(values[rows] for values in self.inputs))

    def at(self, parameters: Parameters) -> Tensor:
        """Compute the outputs (N, C)."""
        with math_attention():
            return self.function(parameters, self.inputs)


def of_module(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Parameters, Outputs]:
    """Return the trained parameters of a module, and its outputs module(*inputs), (N, C), as a function of them.

    Args:
        module: module in eval mode. The parameters that require a gradient are variables, everything else is constant.
        inputs: tensors with N rows each.

    Raises:
        ValueError: no parameter requires a gradient.
    """
    trained = {name: values.detach() for name, values in module.named_parameters() if values.requires_grad}
    if not trained:
        raise ValueError("no parameter of the module requires a gradient: its kernel would be zero")
    return trained, Outputs(lambda parameters, inputs: functional_call(module, parameters, inputs), inputs)


def math_attention() -> sdpa_kernel:
    """Return a context for torch.func: attention's fused kernels have no forward derivative there."""
    return sdpa_kernel(SDPBackend.MATH)


def detached(parameters: Parameters) -> Parameters:
    """Return the parameters detached from the graph."""
    return {name: values.detach() for name, values in parameters.items()}
