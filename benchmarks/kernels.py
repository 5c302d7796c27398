"""The tangent kernel of NTK-CL's scores, by `ntkcl.ntk` and by plain torch.func: time, memory, agreement.

    python benchmarks/kernels.py --images 8 --classes 4

Plain is the contraction of Jacobians of PyTorch's tutorial on neural tangent kernels, with each Jacobian taken once.
The learner has random weights and has met one task; each computation has a process of its own. Memory is the largest
that the process had, above what it had with the learner and the frozen part of the images' features loaded.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import torch
from against import SIZES
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.func import jacrev, vmap

from ntkcl.analysis.learner_functions import Scores
from ntkcl.backbones.files import build_vit
from ntkcl.bench.memory import STATUS, forget_peak, peak
from ntkcl.ntk import Outputs, Parameters, kernel, of_module
from ntkcl.registry import METHODS
from ntkcl.tasks import tasks_of

CPU = torch.device("cpu")


def learned(size: str, images: int, classes: int) -> tuple[Parameters, Outputs]:
    """The scores of a learner after one task, with random weights and prototypes."""
    torch.manual_seed(0)
    ntk_cl = METHODS.load("ntk_cl")
    learner = ntk_cl(build_vit(SIZES[size]), ntk_cl.Settings()).eval()
    learner.add_task(tasks_of([classes])[0])
    torch.nn.init.normal_(learner.prototypes)
    for adapter in learner.current_adapters.channel:
        torch.nn.init.normal_(adapter.up.weight, std=0.02)
    side = SIZES[size].img_size
    frozen = [learner.frozen_forward(torch.rand(1, 3, side, side)) for _ in range(images)]
    return of_module(Scores(learner), tuple(torch.cat(parts) for parts in zip(*frozen, strict=True)))


def plain(parameters: Parameters, outputs: Outputs, summed: bool) -> Tensor:
    """https://docs.pytorch.org/tutorials/intermediate/neural_tangent_kernels.html, "Jacobian contraction"."""

    def of_one(parameters: Parameters, *inputs: Tensor) -> Tensor:
        return outputs.function(parameters, tuple(x[None] for x in inputs))[0]

    with torch.no_grad():
        jacobian = vmap(jacrev(of_one), (None, *(0 for _ in outputs.inputs)))(parameters, *outputs.inputs)
        flat = [part.flatten(2) for part in jacobian.values()]
        equation = "Naf,Maf->NM" if summed else "Naf,Mbf->NaMb"
        return torch.stack([torch.einsum(equation, part, part) for part in flat]).sum(0)


def measure(who: str, summed: bool, memory: int, learner: tuple[str, int, int], threads: int, out: Path) -> None:
    """Compute a kernel; write it, the seconds and the bytes to `out`."""
    torch.set_num_threads(threads)
    parameters, outputs = learned(*learner)
    forget_peak(CPU)
    before, start = peak(CPU), time.perf_counter()
    compute = plain if who == "plain" else lambda p, o, summed: kernel(p, o, summed=summed, memory=memory)
    result = compute(parameters, outputs, summed)
    seconds = time.perf_counter() - start
    torch.save({"kernel": result, "seconds": seconds, "bytes": peak(CPU) - before}, out)


def in_own_process(arguments: dict) -> dict | None:
    """What `measure` writes; None if it did not live to."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "result"
        command = [sys.executable, __file__, "--measure", json.dumps(arguments), "--out", str(out)]
        subprocess.run(command, stderr=subprocess.DEVNULL)
        return torch.load(out) if out.exists() else None


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.option("--images", type=click.IntRange(1), default=8, show_default=True)
@click.option("--classes", type=click.IntRange(1), default=4, show_default=True)
@click.option("--memory", type=click.IntRange(1), default=256, show_default=True, help="Of ours, in MiB.")
@click.option("--size", type=click.Choice([*SIZES]), default="vit_b16", show_default=True)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@click.option("--measure", "arguments", hidden=True)
@click.option("--out", type=click.Path(path_type=Path), hidden=True)
def main(
    images: int, classes: int, memory: int, size: str, threads: int, arguments: str | None, out: Path | None
) -> None:
    """Time both, with the sum over classes and without."""
    if arguments:
        measure(**json.loads(arguments), out=out)
        return
    if not STATUS.exists():
        sys.exit("error: the memory is read from /proc, which only Linux has")
    table = Table("kernel", "by", "seconds", "MiB", "times as fast", "times less memory", "largest difference")
    for summed in (True, False):
        common = dict(summed=summed, memory=memory << 20, learner=(size, images, classes), threads=threads)
        theirs, ours = (in_own_process({"who": who, **common}) for who in ("plain", "ours"))
        kind = "summed" if summed else "full"
        row = (f"{theirs['seconds']:.1f}", f"{theirs['bytes'] / 2**20:.0f}") if theirs else ("ended", "early")
        table.add_row(kind, "plain", *row)
        row = (f"{ours['seconds']:.1f}", f"{ours['bytes'] / 2**20:.0f}")
        table.add_row(kind, "ours", *row, *(compared(theirs, ours) if theirs else ()))
    Console().print(f"{size}, {images} images, {classes} classes, {threads} threads; ours within {memory} MiB", table)


def compared(theirs: dict, ours: dict) -> tuple[str, str, str]:
    """Ratios, and the largest difference in terms of the largest entry."""
    difference = (theirs["kernel"] - ours["kernel"]).abs().max() / theirs["kernel"].abs().max()
    ratios = (f"{theirs[key] / ours[key]:.2f}" for key in ("seconds", "bytes"))
    return *ratios, f"{difference:.1e}"


if __name__ == "__main__":
    main()
