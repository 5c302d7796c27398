"""Taking up results that were computed elsewhere, so that nothing is recomputed and nothing outdated is kept."""

import os
import subprocess
from pathlib import Path

from ntkcl.config import Run, load_study, runs_of
from ntkcl.files import read_json

RECORDS = Path(".snakemake/metadata")


def adopt(study: str) -> str:
    """Make Snakemake regard the present results of `study` as its own.

    Snakemake judges by file times and by its records of parameters; a clone has neither. Runs whose digest is that of
    the present settings are recorded as done. All others get the oldest possible time, so that they are rerun.

    Returns:
        What was done, for people.
    """
    if RECORDS.exists():
        return "Snakemake has its records; nothing to adopt"
    runs = runs_of(load_study(study))
    present = [run for run in runs if (run.folder / "metrics.json").exists()]
    if not present:
        return "no results to adopt"
    fresh = [run for run in present if read_json(run.folder / "metrics.json")["digest"] == run.digest]
    whole = len(fresh) == len(runs) and Path("reports/tables.tex").exists()
    if fresh:
        targets = ["reports/tables.tex"] if whole else [str(run.folder / "wandb") for run in fresh]
        command = ["snakemake", "--touch", "--forceall", "--cores", "1", "--quiet", "all", "--config", f"study={study}"]
        subprocess.run([*command, "--", *targets], check=True, stdout=subprocess.DEVNULL)
    if not whole:
        _outdate(Path("reports/metrics.json"), Path("reports/tables.tex"), Path("reports/tables.md"))
    for run in present:
        if run not in fresh:
            _outdate(*_files(run))
    return f"adopted {len(fresh)} of {len(runs)} runs; {len(runs) - len(fresh)} to run"


def _files(run: Run) -> list[Path]:
    return [path for path in run.folder.rglob("*") if path.is_file()]


def _outdate(*paths: Path) -> None:
    for path in paths:
        if path.exists():
            os.utime(path, (0, 0))
