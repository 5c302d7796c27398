"""`ntkcl check`: validation of all settings."""

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ntkcl.runs import Run


@click.command()
@click.argument("studies", nargs=-1)
def check(studies: tuple[str, ...]) -> None:
    """Validate all settings of STUDIES, of all in params/studies/ by default; nothing is run."""
    from ntkcl.reporting.paper_numbers import paper_tables
    from ntkcl.runs import runs_of
    from ntkcl.settings.files import all_names, load_study

    for study in studies or all_names("studies"):
        runs = runs_of(load_study(study))
        paper_tables(load_study(study), study)
        tasks = sum(len(run.tasks) for run in runs)
        click.echo(f"study {study}: {len(runs)} runs, {tasks} training jobs, all settings valid")
        for note in dict.fromkeys(note for run in runs if (note := _unlisted(run))):
            click.echo(f"  note: {note}")


def _unlisted(run: "Run") -> str:
    """A note for a run whose method has settings for some datasets, but not for this one."""
    if not run.method.datasets or run.dataset_name in run.method.datasets:
        return ""
    file = f"params/methods/{run.variant.partition('/')[0]}.yaml"
    return f"{file} does not list dataset '{run.dataset_name}'; it uses {run.method.other_datasets.note}"
