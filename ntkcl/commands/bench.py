"""`ntkcl bench`: speed of training and evaluation."""

from pathlib import Path

import click

from ntkcl.commands.options import compile_option, compute_options


@click.command()
@click.option("--dataset", default="cifar100", show_default=True, help="Whose settings and task sizes are taken.")
@click.option("--backbone", "backbones", multiple=True, default=["vit_b16_in21k"], show_default=True)
@click.option("--variant", "variants", multiple=True, default=["ntk_cl"], show_default=True)
@click.option(
    "--batch",
    "batches",
    type=click.IntRange(1),
    multiple=True,
    default=[16, 96],
    show_default=True,
    help="Of training; evaluation has 64 (on a CPU the smallest of these).",
)
@click.option("--precision", "precisions", type=click.Choice(["auto", "float32", "bfloat16"]), multiple=True)
@click.option("--seconds", type=click.FloatRange(0), default=5.0, show_default=True, help="Of each measurement, about.")
@click.option("--json", "path", type=click.Path(path_type=Path), help="A file for all numbers.")
@compile_option
@compute_options
def bench(
    dataset: str,
    backbones: tuple[str, ...],
    variants: tuple[str, ...],
    batches: tuple[int, ...],
    precisions: tuple[str, ...],
    seconds: float,
    path: Path | None,
    compile_mode: str | None,
    device: str,
    threads: int,
) -> None:
    """Images per second of training and evaluation, against the fastest matrix product, with random weights.

    Options may be given several times: every combination is measured. (On CPUs: --batch 4, or it takes hours.)
    """
    import torch

    from ntkcl.bench.report import bench as run_bench
    from ntkcl.devices.compute import choose_device
    from ntkcl.runs import resolve

    torch.set_num_threads(threads)
    runs = [resolve(dataset, backbone, variant, 0) for backbone in backbones for variant in variants]
    run_bench(runs, list(batches), list(precisions or ["auto"]), choose_device(device), seconds, path, compile_mode)
