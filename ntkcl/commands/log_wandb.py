"""`ntkcl log-wandb`: finished runs on Weights & Biases."""

import click

from ntkcl.commands.options import run_arguments


@click.command("log-wandb")
@run_arguments
def log_wandb(dataset: str, backbone: str, variant: str, seed: int) -> None:
    """Log a finished run to Weights & Biases: offline unless you are logged in (WANDB_MODE decides)."""
    from ntkcl.pipeline.wandb_log import track
    from ntkcl.runs import run_folder

    track(run_folder(dataset, backbone, variant, seed))
