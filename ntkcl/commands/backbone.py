"""`ntkcl backbone`: frozen weights."""

import click

from ntkcl.commands.options import compute_options, usage


@click.command()
@click.argument("name")
@compute_options
def backbone(name: str, device: str, threads: int) -> None:
    """Make the frozen weights of backbone NAME: backbones/NAME.safetensors, pre-trained here or as published."""
    import torch

    from ntkcl.backbones.pretraining import pretrain
    from ntkcl.backbones.timm_weights import convert_timm_weights
    from ntkcl.devices.compute import choose_device
    from ntkcl.settings.files import load_backbone

    torch.set_num_threads(threads)
    if load_backbone(name).weights:
        convert_timm_weights(name)
    else:
        pretrain(name, choose_device(device))
    click.echo(f"backbones/{name}.safetensors is ready ({usage()})")
