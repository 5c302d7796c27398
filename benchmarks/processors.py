"""Rounding between processors: the quickstart's table, computed with the kernels of several.

    python benchmarks/processors.py FOLDER

Environment variables make PyTorch's libraries use the kernels of older processors. For each setting all runs are
trained in a subfolder of FOLDER, with the shipped backbone and the same data; finished runs are kept. A setting whose
kernels compute the same bytes as an earlier one on this machine is skipped: AVX2 on a processor without AVX-512. On
processors that are not Intel's, MKL ignores MKL_ENABLE_INSTRUCTIONS, but not MKL_CBWR.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ntkcl.storage.files import read_json
from ntkcl.storage.provenance import device_name

REPOSITORY = Path(__file__).parents[1]
KERNELS = {
    "default": {},
    "AVX2": {"ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
    "SSE4": {"ATEN_CPU_CAPABILITY": "default", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2", "ONEDNN_MAX_CPU_ISA": "SSE41"},
    "SSE2 in MKL": {"MKL_CBWR": "COMPATIBLE"},
    "SSE2 in MKL, SSE4 elsewhere": {
        "ATEN_CPU_CAPABILITY": "default",
        "MKL_CBWR": "COMPATIBLE",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
    },
}
PROBE = """
import hashlib, torch
from ntkcl.backbones.user_backbone import open_backbone
torch.set_num_threads(1)
vit = open_backbone("vit_micro")[0].requires_grad_(True)
features = vit(torch.rand(16, 1, 32, 32, generator=torch.Generator().manual_seed(0)))
(features @ features.T).logsumexp(1).mean().backward()
tensors = [features.detach(), *(weight.grad for weight in vit.parameters())]
print(hashlib.sha256(b"".join(tensor.contiguous().numpy().tobytes() for tensor in tensors)).hexdigest())
"""
RUNS = """
import torch
from pathlib import Path
from ntkcl.backbones.files import copy_shipped_weights
from ntkcl.data.prepared.prepare import prepare_dataset
from ntkcl.reporting.collect import aggregate
from ntkcl.runs import runs_of
from ntkcl.settings.files import load_study
from ntkcl.training.evaluate import evaluate
from ntkcl.training.train import train_task
torch.set_num_threads(1)
study, device = load_study("quickstart"), torch.device("cpu")
for name in study.datasets:
    if not Path("data", name, "manifest.csv").exists():
        prepare_dataset(name)
copy_shipped_weights("vit_micro")
for run in runs_of(study):
    for task in run.tasks:
        if not run.state_path(task.index).exists():
            train_task(run, task.index, device)
    if not (run.folder / "metrics.json").exists():
        print(f"{run.name}: {evaluate(run, device)['metrics']['average_accuracy']:.2f}", flush=True)
aggregate("quickstart")
"""


def computed_bytes(variables: dict[str, str]) -> str:
    """Hash the results of one forward and backward pass under the environment `variables`."""
    command = [sys.executable, "-c", PROBE]
    return subprocess.run(command, env=os.environ | variables, check=True, capture_output=True, text=True).stdout


def run_quickstart(folder: Path, variables: dict[str, str]) -> dict[str, Any]:
    """Run the study `quickstart` in `folder` under the environment `variables`; return its `metrics.json`."""
    shutil.copytree(REPOSITORY / "params", folder / "params", dirs_exist_ok=True)
    subprocess.run([sys.executable, "-c", RUNS], cwd=folder, env=os.environ | variables, check=True)
    return read_json(folder / "reports/metrics.json")


def table(content: dict[str, Any]) -> pd.DataFrame:
    """The README's numbers in percent: mean and standard deviation of both metrics on both datasets, a row a method."""
    cells = [
        (summary["label"], f"{summary['dataset_label']} {label} {part}", summary["metrics"][metric][part])
        for summary in content["summaries"]
        for metric, label in (("average_accuracy", "Ā"), ("final_accuracy", "A_T"))
        for part in ("mean", "std")
    ]
    long = pd.DataFrame(cells, columns=["method", "column", "value"])
    wide = long.pivot(index="method", columns="column", values="value")
    return wide.loc[long.method.unique(), long.column.unique()].round(2)


def readme_table() -> list[list[float]]:
    """The numbers in the README, in the same order."""
    lines = (REPOSITORY / "README.md").read_text(encoding="utf-8").splitlines()
    pairs = [re.findall(r"(\d+\.\d\d) ± (\d+\.\d\d)", line) for line in lines]
    return [[float(number) for pair in row for number in pair] for row in pairs if len(row) == 4]


def differences(folder: Path, other: Path) -> str:
    """Count the differences between the runs in two folders: files of losses by bytes, and predictions."""
    losses, images, changed = [], 0, 0
    for path in sorted(folder.glob("runs/**/losses.csv")):
        contents = (hashlib.sha256((side / path.relative_to(folder)).read_bytes()).digest() for side in (folder, other))
        losses.append(len(set(contents)) > 1)
    for path in sorted(folder.glob("runs/**/predictions.csv.gz")):
        ours, theirs = (pd.read_csv(side / path.relative_to(folder)).predicted for side in (folder, other))
        images, changed = images + len(ours), changed + int((ours != theirs).sum())
    return f"{sum(losses)} of {len(losses)} files of losses have other bytes, {changed} of {images} predictions differ"


def main() -> None:
    """Run all settings, and print their tables and differences."""
    folder = Path(sys.argv[1]).resolve()
    print(f"on {device_name('cpu')}")
    probes: dict[str, str] = {}
    for number, (name, variables) in enumerate(KERNELS.items()):
        probe = computed_bytes(variables)
        if probe in probes:
            print(f"\n{name}: here the same kernels as {probes[probe]}")
            continue
        probes[probe] = name
        here = folder / str(number)
        here.mkdir(parents=True, exist_ok=True)
        content = table(run_quickstart(here, variables))
        print(f"\n{name} {variables or ''}\n{content.to_string()}", flush=True)
        moved = abs(content.to_numpy() - np.array(readme_table())).round(2)
        print(
            f"{(moved > 0).sum()} of {moved.size} numbers differ from the README, by at most {moved.max():.2f} points"
        )
        print("to default:", differences(folder / "0", here), flush=True)


if __name__ == "__main__":
    main()
