"""The commands for a run: train, evaluate, track."""

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

    The same command goes on where one was killed or stopped (SIGTERM, Ctrl-C). On several devices of one machine:
    torchrun --standalone --nproc-per-node 2 -m ntkcl train ...
    """
    from ntkcl import parallel
    from ntkcl.config import resolve
    from ntkcl.training.train import choose_device, train_task

    use_threads(threads)
    run = resolve(dataset, backbone, variant, seed)

    def on_epoch(epoch: int, epochs: int, loss: float) -> None:
        if parallel.rank() == 0:
            click.echo(f"epoch {epoch} of {epochs}: loss {loss:.4f}")

    log = train_task(run, task, choose_device(device), on_epoch, 60 * save_every, compile_mode)
    if parallel.rank() > 0:
        return
    for term, count in log.undefined().items():
        click.echo(f"warning: {term} was undefined in {count} of {len(log.rows)} steps and counted as 0", err=True)
    click.echo(f"{run.state_path(task)} is ready ({usage()})")


@click.command()
@run_arguments
@compute_options
def evaluate(dataset: str, backbone: str, variant: str, seed: int, device: str, threads: int) -> None:
    """Predict all test images with every state of a run; write predictions.csv.gz and metrics.json."""
    from ntkcl import parallel
    from ntkcl.config import resolve
    from ntkcl.training.evaluate import evaluate as evaluate_run
    from ntkcl.training.train import choose_device

    use_threads(threads)
    run = resolve(dataset, backbone, variant, seed)
    metrics = evaluate_run(run, choose_device(device))["metrics"]
    if parallel.rank() > 0:
        return
    accuracy = f"average accuracy {metrics['average_accuracy']:.2f}, final {metrics['final_accuracy']:.2f}"
    click.echo(f"{run.folder}/metrics.json is ready: {accuracy} ({usage()})")


@click.command("track")
@run_arguments
def track_command(dataset: str, backbone: str, variant: str, seed: int) -> None:
    """Log a finished run to Weights & Biases: offline unless you are logged in (WANDB_MODE decides)."""
    from ntkcl.config import run_folder
    from ntkcl.tracking import track

    track(run_folder(dataset, backbone, variant, seed))


@click.command("kernel")
@run_arguments
@click.option("--memory", type=click.FloatRange(0.01), default=2.0, show_default=True, help="GiB for kernels.")
@compute_options
def kernel_command(
    dataset: str, backbone: str, variant: str, seed: int, memory: float, device: str, threads: int
) -> None:
    """Measure a finished run from within: kernels, gaps, forecasts; write kernel.json and kernel.safetensors."""
    from ntkcl.analysis.run import measure
    from ntkcl.config import resolve
    from ntkcl.training.train import choose_device

    use_threads(threads)
    run = resolve(dataset, backbone, variant, seed)
    measure(run, choose_device(device), int(memory * 2**30))
    click.echo(f"{run.folder}/kernel.json is ready ({usage()})")
