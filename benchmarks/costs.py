"""What each method of a study costs: parameters, passes, and seconds of training, as a table in Markdown.

    python benchmarks/costs.py methods            # in a project folder with the study's data and backbone

Seconds are those of all tasks of one run, with reading its data, in one process with one thread. Runs are written to a
temporary folder.
"""

import contextlib
import os
import sys
import tempfile
import time
from pathlib import Path

import torch

from ntkcl.bench.method_costs import parameters_of, passes_of
from ntkcl.runs import Run, resolve
from ntkcl.settings.files import load_study
from ntkcl.training.train import train_task

SEED = 0


def training_seconds(run: Run) -> float:
    """Seconds of training all tasks of `run`."""
    start = time.perf_counter()
    with Path(os.devnull).open("w") as nothing, contextlib.redirect_stderr(nothing):
        for task in run.tasks:
            train_task(run, task.index, torch.device("cpu"))
    return time.perf_counter() - start


def main(study_name: str) -> None:
    """Print a row for each variant of the study."""
    torch.set_num_threads(1)
    study = load_study(study_name)
    heads = ["Method", "Trained", "Stored", "For the next task", "Passes, training", "inference"]
    heads += [f"Seconds, {dataset}" for dataset in study.datasets]
    print("| " + " | ".join(heads) + " |\n|---" + "|---:" * (len(heads) - 1) + "|")
    for variant in study.table_variants:
        runs = [resolve(dataset, study.backbones[0], variant, SEED) for dataset in study.datasets]
        parameters, passes = parameters_of(runs[0]), passes_of(runs[0])
        cells = [f"{parameters.trained:,}", f"{parameters.stored:,}", f"{parameters.for_next_task:,}"]
        cells += [f"{passes.training:.1f}", f"{passes.inference:.1f}"]
        cells += [f"{training_seconds(run):.1f}" for run in runs]
        shown = ["–" if cell in ("0", "0.0") else cell for cell in cells]
        print(f"| {runs[0].label} | " + " | ".join(shown) + " |", flush=True)


if __name__ == "__main__":
    project = Path.cwd()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for part in ("params", "data", "backbones"):
            (Path(folder) / part).symlink_to(project / part)
        main(*sys.argv[1:])
