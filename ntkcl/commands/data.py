"""The commands for datasets and backbones."""

import click

from ntkcl.commands.options import Commands, compute_options, usage
from ntkcl.errors import UserError


@click.group("data", cls=Commands)
def data_group() -> None:
    """The datasets: fetch, prepare, list, verify."""


@data_group.command()
@click.argument("name")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Images checked at once.")
def prepare(name: str, threads: int) -> None:
    """Make the files of dataset NAME: data/NAME/images.safetensors and manifest.csv."""
    from ntkcl import data

    data.prepare(name, threads)
    click.echo(f"data/{name} is ready")


@data_group.command("fetch")
@click.argument("names", nargs=-1, required=True)
def fetch_command(names: tuple[str, ...]) -> None:
    """Fetch the files that the datasets NAMES are made from, into downloads/ (or $NTKCL_DOWNLOADS)."""
    from ntkcl import data

    for name in names:
        data.fetch_files(name)
        click.echo(f"the files of {name} are there")


@data_group.command("list")
def list_command() -> None:
    """Every dataset: state, size, images, and what is missing."""
    from ntkcl.data.overview import show

    show()


@data_group.command("verify")
@click.argument("names", nargs=-1)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Images read at once.")
def verify_data(names: tuple[str, ...], threads: int) -> None:
    """Read every image of the datasets NAMES again (all that are prepared by default); name those that are damaged."""
    from ntkcl.data.overview import prepared, verified

    names = names or prepared()
    if broken := [name for name in names if not verified(name, threads)]:
        raise UserError(f"damaged: {', '.join(broken)}; delete data/NAME and run `ntkcl data prepare NAME`")


@click.command("backbone")
@click.argument("name")
@compute_options
def backbone_command(name: str, device: str, threads: int) -> None:
    """Make the frozen weights of backbone NAME: backbones/NAME.safetensors, pre-trained here or as published."""
    import torch

    from ntkcl.backbones.pretraining import pretrain
    from ntkcl.backbones.published import adopt
    from ntkcl.config import load_backbone
    from ntkcl.training.train import choose_device

    torch.set_num_threads(threads)
    if load_backbone(name).weights:
        adopt(name)
    else:
        pretrain(name, choose_device(device))
    click.echo(f"backbones/{name}.safetensors is ready ({usage()})")
