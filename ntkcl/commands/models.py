"""The commands for what was learned, and for what it is held against: predict, verify."""

from pathlib import Path

import click

from ntkcl.commands.options import Commands, compute_options
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
    from ntkcl.predict import images_in, predictions, print_rows

    model = Classifier.load(state, backbone, device, threads)
    paths = list(images_in(images))
    if failed := print_rows(predictions(model, paths, top), min(top, len(model.classes)), as_json):
        raise UserError(f"{failed} of {len(paths)} images could not be read; the lines above say why")


@click.group(cls=Commands)
def verify() -> None:
    """Compare with numbers computed elsewhere."""


@verify.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--tolerance", default=1e-8, show_default=True, help="Largest relative error that passes.")
def trajectory(file: Path, tolerance: float) -> None:
    """Replay the NTK-CL trajectory in FILE in float64; print the largest relative error of each group."""
    from ntkcl.verify import verify_trajectory

    errors = verify_trajectory(file)
    for group, error in errors.items():
        click.echo(f"{group:22} {error:.1e}")
    click.echo(f"largest {max(errors.values()):.1e}, limit {tolerance:g}")
    if bad := [group for group, error in errors.items() if not error <= tolerance]:
        raise UserError(f"{file}: {', '.join(bad)} differ by more than {tolerance:g}")
