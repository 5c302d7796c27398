"""`ntkcl predict`: classes of images, from a state."""

from pathlib import Path

import click

from ntkcl.commands.options import compute_options
from ntkcl.errors import UserError


@click.command()
@click.argument("state", type=click.Path(path_type=Path))
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--backbone", type=click.Path(path_type=Path), help="Its file, if it is not backbones/NAME.safetensors.")
@click.option("--top", type=click.IntRange(1), default=1, show_default=True, help="Classes for each image.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line and image.")
@compute_options
def predict(
    state: Path, images: tuple[Path, ...], backbone: Path | None, top: int, as_json: bool, device: str, threads: int
) -> None:
    """Predict the classes of IMAGES, files or folders, with STATE, the file of a run's task or of a Classifier."""
    from ntkcl.classifier import Classifier
    from ntkcl.commands.predictions import images_in, predictions, print_rows

    model = Classifier.load(state, backbone, device, threads)
    paths = list(images_in(images))
    if failed := print_rows(predictions(model, paths, top), min(top, len(model.classes)), as_json):
        raise UserError(f"{failed} of {len(paths)} images could not be read; the lines above say why")
