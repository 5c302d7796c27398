"""`ntkcl export`: results for other machines."""

from pathlib import Path

import click

from ntkcl.commands.options import Commands, run_arguments

TO = click.option("--to", "folder", type=click.Path(path_type=Path), help="A new folder; one in exports/ by default.")


@click.group(cls=Commands)
def export() -> None:
    """A trained state, or a finished study, in a folder for other machines."""


@export.command("run")
@run_arguments
@click.option("--task", type=int, help="The state after this task; the last one by default.")
@TO
def export_run(dataset: str, backbone: str, variant: str, seed: int, task: int | None, folder: Path | None) -> None:
    """The state of a finished run, with its backbone and a card; `Classifier.load` and `ntkcl predict` take it."""
    from ntkcl.export.run import export_run
    from ntkcl.runs import resolve

    run = resolve(dataset, backbone, variant, seed)
    folder = folder or Path("exports") / run.name.replace("/", "-")
    export_run(run, folder, task)
    click.echo(f"{folder}: try `ntkcl predict {folder}/state.safetensors IMAGES`")


@export.command("study")
@click.option("--states", "with_states", is_flag=True, help="With the trained states.")
@TO
def export_study(with_states: bool, folder: Path | None) -> None:
    """The study that reports/ shows: tables, figures, predictions, settings, and how to make it again (an RO-Crate)."""
    from ntkcl.export.study import export_study
    from ntkcl.reporting.study_metrics import read_study_metrics

    folder = folder or Path("exports") / read_study_metrics().study
    click.echo(f"{folder}: {export_study(folder, with_states)} runs")
