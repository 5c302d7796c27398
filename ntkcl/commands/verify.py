"""`ntkcl verify`: agreement with numbers that official code computed, and of tables with the data below them."""

from pathlib import Path

import click

from ntkcl.commands.options import Commands
from ntkcl.errors import UserError


@click.group(cls=Commands)
def verify() -> None:
    """Compare with numbers computed elsewhere; follow tables back to the data."""


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


@verify.command()
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Images read at once.")
def report(threads: int) -> None:
    """Follow the tables in reports/ back to predictions, states, weights and images; print what does not belong."""
    from ntkcl.verification.results import makers, problems_of_report

    problems = 0
    for problem in problems_of_report(threads=threads):
        click.echo(problem)
        problems += 1
    if problems:
        raise UserError(f"{problems} problems in what reports/tables.tex rests on; see above")
    for line in makers():
        click.echo(line)
    click.echo("tables, metrics, predictions, states, weights and images belong together")
