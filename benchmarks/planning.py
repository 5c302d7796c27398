"""How long Snakemake plans the paper's whole comparison, and how much memory that takes.

    python benchmarks/planning.py

Everything happens in a temporary folder; the results of half of the runs are files without content.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ntkcl.runs import Run, runs_of
from ntkcl.settings.files import load_study

REPOSITORY = Path(__file__).parents[1]


def make_project(folder: Path) -> None:
    """The repository's pipeline."""
    for part in ("params", "workflow"):
        shutil.copytree(REPOSITORY / part, folder / part)
    shutil.copy(REPOSITORY / "Snakefile", folder)
    (folder / "profiles").symlink_to("workflow/profiles")


def pretend(runs: list[Run]) -> None:
    """Let data, backbones and `runs` look finished, and one task of all others, as if they came from elsewhere."""
    names = {run.dataset_name for run in runs}
    files = [Path("data") / name / part for name in names for part in ("source.json", "images.safetensors")]
    files += [Path("data") / name / "manifest.csv" for name in names]
    files += [Path("backbones") / f"{name}.safetensors" for name in {run.backbone_name for run in runs}]
    for index, run in enumerate(runs):
        tasks = run.tasks if index % 2 else run.tasks[:1]
        files += [run.folder / f"task{t.index}" / part for t in tasks for part in ("state.safetensors", "losses.csv")]
        if index % 2:
            files += [run.folder / part for part in ("predictions.csv.gz", "wandb/run")]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    for run in runs[1::2]:
        (run.folder / "metrics.json").write_text(json.dumps({"digest": run.digest}))
        (run.folder / "wandb").touch()


def measure(title: str, *target: str) -> None:
    """Plan `target`; print jobs, seconds, and the memory of the largest process."""
    command = [Path(sys.executable).with_name("snakemake"), "--dry-run", "--config", "study=paper", "--", *target]
    start = time.perf_counter()
    with Path("log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(process.pid, 0)
    seconds, output = time.perf_counter() - start, Path("log").read_text()
    if status:
        sys.exit(output[-2000:])
    jobs = [line.split()[1] for line in output.splitlines() if line.strip().startswith("total ")] or ["0"]
    print(f"{title:55} {jobs[-1]:>6} jobs {seconds:6.1f} s {used.ru_maxrss / 1024**2:5.2f} GiB", flush=True)


def main() -> None:
    """Measure the plans."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        make_project(Path(folder))
        runs = runs_of(load_study("paper"))
        print(f"{len(runs)} runs")
        measure("nothing done", "reports/tables.tex")
        measure("nothing done, one table", "table_2")
        pretend(runs)
        measure("half done elsewhere, taken up", "reports/tables.tex")
        measure("half done, planned again", "reports/tables.tex")
        measure("half done, one dataset", "dataset_cifar100")


if __name__ == "__main__":
    main()
