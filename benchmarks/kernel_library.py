"""The tangent kernel of a perceptron by `ntkcl.ntk`, by plain torch.func and by ASDL: time and agreement.

    pip install asdfghjkl==0.1a5    # ASDL (Osawa et al., arXiv 2305.04684); its hooks know modules as torch has them
    python benchmarks/kernel_library.py

ASDL cannot be set beside ours on NTK-CL, whose adapters and prompts use their weights in functions of their own.
"""

import time
import warnings
from collections.abc import Callable

import click
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap

from ntkcl.ntk import kernel, of_module


def by_torch(model: nn.Module, images: Tensor) -> Tensor:
    """The full kernel (N, C, N, C) by vmap and jacrev over all parameters."""
    parameters = {name: value.detach() for name, value in model.named_parameters()}
    rows = vmap(jacrev(lambda p, x: functional_call(model, p, (x[None],))[0]), (None, 0))(parameters, images)
    rows = torch.cat([part.flatten(2) for part in rows.values()], 2)
    return torch.einsum("acp,bdp->acbd", rows, rows)


def by_asdl(model: nn.Module, images: Tensor) -> Tensor:
    """The same by ASDL's products, whose direct way fails with this torch."""
    from asdl.kernel import empirical_implicit_ntk

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return empirical_implicit_ntk(model, images).permute(0, 2, 1, 3)


def by_ours(model: nn.Module, images: Tensor) -> Tensor:
    """The same by Jacobians in chunks."""
    return kernel(*of_module(model, (images,)))


def best(compute: Callable[[nn.Module, Tensor], Tensor], model: nn.Module, images: Tensor) -> tuple[float, Tensor]:
    """The fewest seconds of three, and the kernel."""
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        result = compute(model, images)
        seconds.append(time.perf_counter() - start)
    return min(seconds), result.detach()


@click.command()
@click.option("--images", default=64, show_default=True)
@click.option("--classes", default=10, show_default=True)
@click.option("--width", default=512, show_default=True)
def main(images: int, classes: int, width: int) -> None:
    """Print the table."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    layers = [nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, classes)]
    model, x = nn.Sequential(*layers), torch.randn(images, width)
    ours, expected = best(by_ours, model, x)
    table = Table("by", "seconds", "times ours", "largest difference")
    table.add_row("ours", f"{ours:.3f}", "", "")
    for name, compute in (("torch.func", by_torch), ("ASDL", by_asdl)):
        seconds, found = best(compute, model, x)
        difference = (found - expected).abs().max() / expected.abs().max()
        table.add_row(name, f"{seconds:.3f}", f"{seconds / ours:.0f}", f"{difference:.0e}")
    Console().print(table)


if __name__ == "__main__":
    main()
