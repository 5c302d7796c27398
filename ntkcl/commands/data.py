"""`ntkcl data`: fetch, prepare, list and verify datasets."""

import click

from ntkcl.commands.options import Commands
from ntkcl.errors import UserError


@click.group(cls=Commands)
def data() -> None:
    """The datasets: fetch, prepare, list, verify."""


@data.command()
@click.argument("name")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Images checked at once.")
def prepare(name: str, threads: int) -> None:
    """Make the files of dataset NAME: data/NAME/images.safetensors and manifest.csv."""
    from ntkcl.data.prepared.prepare import prepare_dataset

    prepare_dataset(name, threads)
    click.echo(f"data/{name} is ready")


@data.command("fetch")
@click.argument("names", nargs=-1, required=True)
def fetch_command(names: tuple[str, ...]) -> None:
    """Fetch the files that the datasets NAMES are made from, into downloads/ (or $NTKCL_DOWNLOADS)."""
    from ntkcl.data.prepared.prepare import fetch_files

    for name in names:
        fetch_files(name)
        click.echo(f"the files of {name} are there")


@data.command("list")
def list_command() -> None:
    """Every dataset: state, size, images, and what is missing."""
    from ntkcl.data.prepared.status import show

    show()


@data.command("verify")
@click.argument("names", nargs=-1)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Images read at once.")
def verify_data(names: tuple[str, ...], threads: int) -> None:
    """Read every image of the datasets NAMES again (all that are prepared by default); name those that are damaged."""
    from ntkcl.data.prepared.status import prepared, verified

    names = names or prepared()
    if broken := [name for name in names if not verified(name, threads)]:
        raise UserError(f"damaged: {', '.join(broken)}; delete data/NAME and run `ntkcl data prepare NAME`")
