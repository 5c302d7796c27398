"""`ntkcl check`: validation of all settings."""

import click


@click.command()
@click.argument("studies", nargs=-1)
def check(studies: tuple[str, ...]) -> None:
    """Validate all settings of STUDIES, of all in params/studies/ by default; nothing is run."""
    from ntkcl.reporting.paper_numbers import paper_tables
    from ntkcl.runs import runs_of
    from ntkcl.settings.files import PARAMS, load_study

    for study in studies or sorted(path.stem for path in (PARAMS / "studies").glob("*.yaml")):
        runs = runs_of(load_study(study))
        paper_tables(load_study(study), study)
        tasks = sum(len(run.tasks) for run in runs)
        click.echo(f"study {study}: {len(runs)} runs, {tasks} training jobs, all settings valid")
