"""Kernels of other processors round differently, and the accuracies stay the same."""

import json
import os
import subprocess
import sys
from pathlib import Path

OLDER = {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE", "ONEDNN_MAX_CPU_ISA": "SSE41"}
RUNS = """
import json, torch
from ntkcl.runs import runs_of
from ntkcl.settings.files import load_study
from ntkcl.training.evaluate import evaluate
from ntkcl.training.train import train_task
torch.set_num_threads(1)
device, found = torch.device("cpu"), {}
for run in runs_of(load_study("quickstart")):
    for task in run.tasks:
        train_task(run, task.index, device)
    found[run.name] = evaluate(run, device)["metrics"]["accuracy"]
print(torch.backends.cpu.get_cpu_capability(), json.dumps(found))
"""


def accuracies(variables: dict[str, str]) -> tuple[str, dict[str, list[float]]]:
    """Kernels that PyTorch uses, and accuracies of all runs after each task, under the environment `variables`."""
    command = [sys.executable, "-c", RUNS]
    done = subprocess.run(command, env=os.environ | variables, check=True, capture_output=True, text=True)
    kernels, _, found = done.stdout.partition(" ")
    return kernels, json.loads(found)


def test_older_kernels_give_the_same_accuracies(tiny: Path) -> None:
    (ours, expected), (older, found) = accuracies({}), accuracies(OLDER)
    assert older == "DEFAULT" and found == expected, f"{ours} kernels give {expected}"
