"""`ntkcl evaluate`: predictions and metrics of a run."""

import click

from ntkcl.commands.options import compute_options, run_arguments, usage, use_threads


@click.command()
@run_arguments
@compute_options
def evaluate(dataset: str, backbone: str, variant: str, seed: int, device: str, threads: int) -> None:
    """Predict all test images with every state of a run; write predictions.csv.gz and metrics.json."""
    from ntkcl.devices import distributed
    from ntkcl.devices.compute import choose_device
    from ntkcl.runs import resolve
    from ntkcl.training.evaluate import evaluate as evaluate_run

    use_threads(threads)
    run = resolve(dataset, backbone, variant, seed)
    metrics = evaluate_run(run, choose_device(device))["metrics"]
    if distributed.rank() > 0:
        return
    accuracy = f"average accuracy {metrics['average_accuracy']:.2f}, final {metrics['final_accuracy']:.2f}"
    click.echo(f"{run.folder}/metrics.json is ready: {accuracy} ({usage()})")
