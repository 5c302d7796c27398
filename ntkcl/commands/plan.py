"""`ntkcl plan`: the cost of a study."""

import click

from ntkcl.commands.options import compute_options


@click.command()
@click.argument("study")
@click.option("--measure", is_flag=True, help="Measure the speed of each kind of run first, on the chosen device.")
@compute_options
def plan(study: str, measure: bool, device: str, threads: int) -> None:
    """Estimate the cost of STUDY: runs and jobs to do, images to compute, hours, disk, downloads."""
    import torch

    from ntkcl.devices.compute import choose_device
    from ntkcl.pipeline.plan_table import show
    from ntkcl.pipeline.throughput import measure_all
    from ntkcl.runs import runs_of
    from ntkcl.settings.files import load_study

    runs = runs_of(load_study(study))
    torch.set_num_threads(threads)
    for run, speed in measure_all(runs, choose_device(device)) if measure else ():
        what = f"{run.variant} with {run.backbone_name}, batches of {run.training.batch_size}"
        click.echo(f"{what}: {speed['train']:.4g} images/s in training, {speed['evaluate']:.4g} in evaluation")
    show(study)
