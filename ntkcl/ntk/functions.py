"""Functions of parameters whose tangent kernel is asked for."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

Parameters = dict[str, Tensor]
"""By name; whatever a function does not depend on costs nothing."""


@dataclass(frozen=True)
class Outputs:
    """C outputs of a function of parameters at N inputs.

    Args:
        function: of the parameters and of B rows of each input to outputs (B, C). Each row depends on its own inputs
            alone, nothing is drawn at random (no dropout), and the operations are the same for all inputs.
        inputs: each with N rows, on the parameters' device.

    Raises:
        ValueError: there is no input, or their numbers of rows differ.
    """

    function: Callable[[Parameters, tuple[Tensor, ...]], Tensor]
    inputs: tuple[Tensor, ...]

    def __post_init__(self) -> None:
        if len({len(rows) for rows in self.inputs}) != 1:
            raise ValueError(f"inputs need the same number of rows; these have {[len(rows) for rows in self.inputs]}")

    def __len__(self) -> int:
        return len(self.inputs[0])

    def __getitem__(self, rows: slice) -> "Outputs":
        """The same function at some of the inputs."""
        return Outputs(self.function, tuple(values[rows] for values in self.inputs))

    def at(self, parameters: Parameters) -> Tensor:
        """The outputs (N, C)."""
        with math_attention():
            return self.function(parameters, self.inputs)


def of_module(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Parameters, Outputs]:
    """The outputs module(*inputs), (N, C), as a function of those of its parameters that require a gradient.

    Args:
        module: in eval mode; everything else that it holds stays as it is.
        inputs: each with N rows.

    Raises:
        ValueError: no parameter requires a gradient.
    """
    trained = {name: values.detach() for name, values in module.named_parameters() if values.requires_grad}
    if not trained:
        raise ValueError("no parameter of the module requires a gradient: its kernel would be zero")
    return trained, Outputs(lambda parameters, inputs: functional_call(module, parameters, inputs), inputs)


def math_attention() -> sdpa_kernel:
    """The context for functions under torch.func: attention's fused kernels have no forward derivative there."""
    return sdpa_kernel(SDPBackend.MATH)


def detached(parameters: Parameters) -> Parameters:
    """The parameters as tensors of their own, without a history."""
    return {name: values.detach() for name, values in parameters.items()}
