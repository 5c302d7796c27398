"""Files of a fake study: its settings, and the metrics of its runs."""

import json
from pathlib import Path

import yaml

from ntkcl.reporting.collect import METRICS
from ntkcl.runs import run_folder
from tests.helpers.fake_results import run_of

REPORTS = Path("reports")
BACKBONE = {
    "label": "ViT_tiny",
    "architecture": dict.fromkeys(("img_size", "patch_size", "in_chans", "embed_dim", "depth", "num_heads"), 1)
    | {"mlp_ratio": 1},
    "pretraining": {"dataset": "toy"},
}
DATASET = {
    "source": "toy",
    "classes": 4,
    "first_task_classes": 2,
    "classes_per_task": 2,
    "note": "fake, 50 % noise & more",
}


def write_yaml(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content))


def write_run(dataset, variant, seed, average, backbone="vit", *, split="0123456789abcdef", images="ff", **made_with):
    """Write the metrics of one run whose average accuracy is `average`."""
    metrics = dict.fromkeys(METRICS, None if variant == "joint" else average / 10) | {
        "average_accuracy": average,
        "final_accuracy": average - 1,
        "accuracy": [average + 1, average - 1],
        "accuracy_matrix": [[average + 1], [average, average - 2]],
    }
    names = {"dataset": dataset, "backbone": backbone, "variant": variant, "seed": seed}
    made_with = {
        "device": "CPU (one)",
        "versions": {"torch": "2.0", "numpy": "1.5"},
        "lock": "12ab",
        "commit": "abc+",
    } | made_with
    folder = run_folder(dataset, backbone, variant, seed)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps(run_of(names, metrics, [made_with], split, images)))
