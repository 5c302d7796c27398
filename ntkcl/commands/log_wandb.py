"""`ntkcl log-wandb`: finished runs on Weights & Biases."""

from pathlib import Path

import click

from ntkcl.errors import UserError


@click.command("log-wandb")
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--live", is_flag=True, help="Upload curves of runs that train, until Ctrl-C.")
@click.option("--every", type=click.FloatRange(0.1), default=60, show_default=True, help="Seconds between two uploads.")
@click.option("--parent", type=int, hidden=True, help="With --live: until this process, the parent, ends.")
def log_wandb(folders: tuple[Path, ...], live: bool, every: float, parent: int | None) -> None:
    """Log all finished runs below FOLDERS, such as runs/digits, to Weights & Biases, each once.

    They are logged offline, into their folders, and uploaded if you are logged in (WANDB_MODE decides).
    """
    from ntkcl.pipeline.wandb_log import log_runs

    if live:
        from ntkcl.pipeline.wandb_live import follow

        return follow(list(folders), every, parent)
    runs = sorted(path.parent for folder in folders for path in folder.rglob("metrics.json"))
    if not runs:
        raise UserError(f"no finished run in {', '.join(map(str, folders))}; train and evaluate a run first")
    log_runs(runs)
