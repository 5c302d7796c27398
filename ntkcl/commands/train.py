"""`ntkcl train`: one task of a run."""

import click

from ntkcl.commands.options import compile_option, compute_options, run_arguments, usage, use_threads


@click.command()
@run_arguments
@click.option("--task", type=click.IntRange(0), required=True, help="Index of the task, from 0.")
@click.option("--save-every", type=click.FloatRange(0), default=5, show_default=True, help="Minutes, within the task.")
@compile_option
@compute_options
def train(
    dataset: str,
    backbone: str,
    variant: str,
    seed: int,
    task: int,
    save_every: float,
    compile_mode: str | None,
    device: str,
    threads: int,
) -> None:
    """Train one task of the run DATASET BACKBONE VARIANT SEED, from the state of the task before.

    The same command resumes a training that was killed or stopped (SIGTERM, Ctrl-C). On several devices of one machine:
    torchrun --standalone --nproc-per-node 2 -m ntkcl train ...
    """
    from ntkcl.devices import distributed
    from ntkcl.devices.compute import choose_device
    from ntkcl.runs import resolve
    from ntkcl.training.train import train_task

    use_threads(threads)
    run = resolve(dataset, backbone, variant, seed)

    def on_epoch(epoch: int, epochs: int, loss: float) -> None:
        if distributed.rank() == 0:
            click.echo(f"epoch {epoch} of {epochs}: loss {loss:.4f}")

    log = train_task(run, task, choose_device(device), on_epoch, 60 * save_every, compile_mode)
    if distributed.rank() > 0:
        return
    for term, count in log.undefined().items():
        click.echo(f"warning: {term} was undefined in {count} of {len(log.rows)} steps and counted as 0", err=True)
    click.echo(f"{run.state_path(task)} is ready ({usage()})")
