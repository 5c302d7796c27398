"""Taking up results that were computed elsewhere, so that nothing is recomputed and nothing outdated is kept."""

import os
import subprocess
from pathlib import Path

from ntkcl.config import Run, load_study, runs_of
from ntkcl.files import read_json

RECORDS = Path(".snakemake/metadata")
REPORTS = [Path("reports") / name for name in ("metrics.json", "figures/accuracy.pdf", "tables.tex")]
LONG_AGO = 946_684_800  # 2000-01-01, older than any result; a time of 0 does not make Snakemake rerun


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
    targets = [str(run.folder / "wandb") for run in fresh if (run.folder / "wandb").exists()]
    if _report_is_of(runs) and len(fresh) == len(runs):
        targets += [str(path) for path in REPORTS if path.exists()]
    else:
        _outdate(*REPORTS)
    for run in present:
        if run not in fresh:
            _outdate(*run.folder.rglob("*"))
    if targets:
        command = ["snakemake", "--touch", "--forceall", "--cores", "1", "--quiet", "all", "--config", f"study={study}"]
        subprocess.run([*command, "--", *targets], check=True, stdout=subprocess.DEVNULL)
    return f"adopted {len(fresh)} of {len(runs)} runs; {len(runs) - len(fresh)} to run"


def _report_is_of(runs: list[Run]) -> bool:
    if not REPORTS[0].exists():
        return False
    return [run["digest"] for run in read_json(REPORTS[0])["runs"]] == [run.digest for run in runs]


def _outdate(*paths: Path) -> None:
    for path in paths:
        if path.exists():
            os.utime(path, (LONG_AGO, LONG_AGO))
