"""`ntkcl measure-kernel`: kernels, gaps and forecasts of a finished run."""

import click

from ntkcl.commands.options import compute_options, run_arguments, usage, use_threads


@click.command("measure-kernel")
@run_arguments
@click.option("--memory", type=click.FloatRange(0.01), default=2.0, show_default=True, help="GiB for kernels.")
@compute_options
def measure_kernel(
    dataset: str, backbone: str, variant: str, seed: int, memory: float, device: str, threads: int
) -> None:
    """Measure kernels, gaps and forecasts of a finished run; write kernel.json and kernel.safetensors."""
    from ntkcl.analysis.measure import measure
    from ntkcl.devices.compute import choose_device
    from ntkcl.runs import resolve

    use_threads(threads)
    run = resolve(dataset, backbone, variant, seed)
    measure(run, choose_device(device), int(memory * 2**30))
    click.echo(f"{run.folder}/kernel.json is ready ({usage()})")
