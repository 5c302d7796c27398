"""The commands about studies before they run: check, plan, bench."""

from pathlib import Path

import click

from ntkcl.commands.options import compile_option, compute_options


@click.command()
@click.argument("studies", nargs=-1)
def check(studies: tuple[str, ...]) -> None:
    """Validate all settings of STUDIES, of all in params/studies/ by default; nothing is run."""
    from ntkcl.config import PARAMS, load_study, runs_of
    from ntkcl.reporting.published import paper_tables

    for study in studies or sorted(path.stem for path in (PARAMS / "studies").glob("*.yaml")):
        runs = runs_of(load_study(study))
        paper_tables(load_study(study), study)
        tasks = sum(len(run.tasks) for run in runs)
        click.echo(f"study {study}: {len(runs)} runs, {tasks} training jobs, all settings valid")


@click.command("plan")
@click.argument("study")
@click.option("--measure", is_flag=True, help="Measure the speed of each kind of run first, on the chosen device.")
@compute_options
def plan_command(study: str, measure: bool, device: str, threads: int) -> None:
    """What STUDY costs: runs and jobs to do, images to compute, hours, disk, downloads."""
    import torch

    from ntkcl.config import load_study, runs_of
    from ntkcl.planning.table import show
    from ntkcl.planning.throughput import measure_all
    from ntkcl.training.train import choose_device

    runs = runs_of(load_study(study))
    torch.set_num_threads(threads)
    for run, speed in measure_all(runs, choose_device(device)) if measure else ():
        what = f"{run.variant} with {run.backbone_name}, batches of {run.training.batch_size}"
        click.echo(f"{what}: {speed['train']:.4g} images/s in training, {speed['evaluate']:.4g} in evaluation")
    show(study)


@click.command("bench")
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
def bench_command(
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

    from ntkcl.bench.table import bench
    from ntkcl.config import resolve
    from ntkcl.training.train import choose_device

    torch.set_num_threads(threads)
    runs = [resolve(dataset, backbone, variant, 0) for backbone in backbones for variant in variants]
    bench(runs, list(batches), list(precisions or ["auto"]), choose_device(device), seconds, path, compile_mode)
