"""The command `ntkcl`: every step of the pipeline, as a person can type it."""

import click

from ntkcl import __version__
from ntkcl.commands import data, models, reports, runs, studies
from ntkcl.commands.options import Commands


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__)
def main() -> None:
    """NTK-CL and its rivals under one protocol. The commands work on the project folder that they are called in."""


COMMANDS = (
    data.data_group,
    data.backbone_command,
    runs.train,
    runs.evaluate,
    runs.track_command,
    runs.kernel_command,
    reports.aggregate,
    reports.analyze,
    reports.tables,
    reports.figures,
    reports.show,
    reports.report_command,
    studies.check,
    studies.plan_command,
    studies.bench_command,
    models.predict,
    models.verify,
)
for command in COMMANDS:
    main.add_command(command)


if __name__ == "__main__":
    main()
