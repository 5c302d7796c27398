"""The command `ntkcl`: every step of the pipeline, as you can type it."""

import click

from ntkcl import __version__
from ntkcl.commands.backbone import backbone
from ntkcl.commands.bench import bench
from ntkcl.commands.check import check
from ntkcl.commands.data import data
from ntkcl.commands.evaluate import evaluate
from ntkcl.commands.export import export
from ntkcl.commands.log_wandb import log_wandb
from ntkcl.commands.measure_kernel import measure_kernel
from ntkcl.commands.options import Commands
from ntkcl.commands.plan import plan
from ntkcl.commands.predict import predict
from ntkcl.commands.report import report
from ntkcl.commands.train import train
from ntkcl.commands.verify import verify


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__)
def main() -> None:
    """NTK-CL and the methods it is compared with, under one protocol. Commands work on the current project folder."""


STEPS = (data, backbone, train, evaluate, measure_kernel, log_wandb, report)
COMMANDS = (*STEPS, check, plan, bench, predict, verify, export)
for command in COMMANDS:
    main.add_command(command)


if __name__ == "__main__":
    main()
