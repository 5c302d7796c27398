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
@click.option("--tolerance", type=float, help="Largest relative error that passes; by default, each group has its own.")
def trajectory(file: Path, tolerance: float | None) -> None:
    """Replay the trajectory of a method in FILE in float64; print the largest relative error of each group."""
    from ntkcl.verification.verify import verify_trajectory

    groups = verify_trajectory(file)
    limits = {group: limit if tolerance is None else tolerance for group, (_, limit) in groups.items()}
    for group, (error, _) in groups.items():
        click.echo(f"{group:28} {error:.1e}   limit {limits[group]:g}")
    click.echo(f"largest {max(error for error, _ in groups.values()):.1e}")
    if bad := [group for group, (error, _) in groups.items() if not error <= limits[group]]:
        raise UserError(f"{file}: {', '.join(bad)} differ by more than {max(limits[group] for group in bad):g}")
