"""Kernels of other processors round differently, and the accuracies stay the same."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ntkcl.storage.files import read_json

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
    found[run.variant] = evaluate(run, device)["metrics"]["accuracy"]
print(torch.backends.cpu.get_cpu_capability(), json.dumps(found))
"""


@pytest.mark.slow
def test_older_kernels_give_the_same_accuracies(finished: Path) -> None:
    runs = [read_json(path) for path in finished.glob("runs/**/metrics.json")]
    expected = {run["run"]["variant"]: run["metrics"]["accuracy"] for run in runs}
    command = [sys.executable, "-c", RUNS]
    done = subprocess.run(command, env=os.environ | OLDER, check=True, capture_output=True, text=True)
    kernels, _, found = done.stdout.partition(" ")
    assert kernels == "DEFAULT" and json.loads(found) == expected
