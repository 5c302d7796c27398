"""`ntkcl verify`: agreement with numbers that official code computed."""

from pathlib import Path

import click

from ntkcl.commands.options import Commands
from ntkcl.errors import UserError


@click.group(cls=Commands)
def verify() -> None:
    """Compare with numbers computed elsewhere."""


@verify.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--tolerance", default=1e-8, show_default=True, help="Largest relative error that passes.")
def trajectory(file: Path, tolerance: float) -> None:
    """Replay the NTK-CL trajectory in FILE in float64; print the largest relative error of each group."""
    from ntkcl.verification.ntk_cl import verify_trajectory

    errors = verify_trajectory(file)
    for group, error in errors.items():
        click.echo(f"{group:22} {error:.1e}")
    click.echo(f"largest {max(errors.values()):.1e}, limit {tolerance:g}")
    if bad := [group for group, error in errors.items() if not error <= tolerance]:
        raise UserError(f"{file}: {', '.join(bad)} differ by more than {tolerance:g}")
