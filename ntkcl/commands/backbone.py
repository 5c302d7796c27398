"""`ntkcl backbone`: frozen weights."""

import click

from ntkcl.commands.options import compute_options, usage


@click.command()
@click.argument("name")
@click.option("--retrain", is_flag=True, help="Pre-train by the recipe, although weights come with the package.")
@compute_options
def backbone(name: str, retrain: bool, device: str, threads: int) -> None:
    """Write the frozen weights of backbone NAME, backbones/NAME.safetensors.

    They are published, in the package, or pre-trained here, depending on params/backbones.yaml.
    """
    from ntkcl.backbones.files import copy_shipped_weights
    from ntkcl.errors import UserError
    from ntkcl.settings.files import load_backbone

    settings = load_backbone(name)
    if settings.weights and retrain:
        raise UserError(f"the weights of {name} are published, without a recipe here; leave out --retrain")
    if settings.weights:
        from ntkcl.backbones.timm_weights import convert_timm_weights

        convert_timm_weights(name)
    elif settings.shipped and not retrain:
        copy_shipped_weights(name)
    else:
        _pretrain(name, device, threads)
    click.echo(f"backbones/{name}.safetensors is ready ({usage()})")
    if settings.shipped and retrain:
        click.echo(_comparison(name, settings.shipped))


def _pretrain(name: str, device: str, threads: int) -> None:
    import torch

    from ntkcl.backbones.pretraining import pretrain
    from ntkcl.devices.compute import choose_device

    torch.set_num_threads(threads)
    pretrain(name, choose_device(device))


def _comparison(name: str, shipped: str) -> str:
    """Compare the weights of `name` that were just pre-trained with the shipped ones."""
    from ntkcl.backbones.files import load_vit_file, weights_path

    found = load_vit_file(weights_path(name))[1]["fingerprint"]
    if found == shipped:
        return "its weights equal the ones in the package, bit by bit"
    return (
        f"warning: its weights (fingerprint {found[:12]}) are not the ones in the package ({shipped[:12]}), and runs "
        f"refuse it: run `ntkcl backbone {name}` to restore the file, or remove `shipped` from {name} in "
        "params/backbones.yaml to use the new weights"
    )
