"""Random results in the form of the real ones: a study's metrics, and a comparison of realistic size.

All are plain JSON, so that tests can change them; `StudyMetrics` and `StudyComparison` are their models.
"""

import csv
import json
from pathlib import Path

import numpy as np
import yaml
from safetensors.numpy import save_file

from ntkcl.metrics.continual import backward_transfer, forgetting, learning_accuracy
from ntkcl.metrics.statistics import summary
from ntkcl.runs import variant_change
from ntkcl.settings.models import Method

ROOT = Path(__file__).parents[2]
CONDITIONS = {"digits/vit_micro": "Digits", "glyphs/vit_micro": "Glyphs"}
ACCURACIES = ("average_accuracy", "final_accuracy", "forgetting")
METRICS = (*ACCURACIES, "backward_transfer", "learning_accuracy")
MEASURES = (*ACCURACIES, "task_specific_gap", "same_classes_gap", "effective_dimension", "drift", "alignment")
METHODS = {"finetuning": "Fine-tuning", "ntk_cl": "NTK-CL", "joint": "Joint training"}
TASKS, IMAGES, SEEDS = 5, 40, 3
SIDES = ("predicted", "measured")
PROVENANCE = {"devices": ["CPU"], "commits": ["abc"], "versions": {"torch": ["2.0"]}}
NO_CORRELATION = {"rho": None, "low": None, "high": None, "n": 0}
MADE_WITH = [{"device": "CPU", "versions": {"torch": "2.0"}, "commit": "abc"}]


def metrics_of(variants, datasets=("digits", "glyphs"), backbone="vit_micro", paper=(), tasks=TASKS):
    """Metrics of a study of `variants`, labels by name, with random accuracies."""
    noise, runs, summaries = np.random.default_rng(0), [], []
    for dataset in datasets:
        for variant, label in variants.items():
            names = {"dataset": dataset, "backbone": backbone, "variant": variant}
            metrics = [metrics_of_run(noise, tasks, variant == "joint") for _ in range(SEEDS)]
            runs += [run_of(names | {"seed": seed}, each) for seed, each in enumerate(metrics)]
            summaries.append(summary_of(names, label, metrics))
    return {
        "study": "fake", "title": "A fake study", "report_digest": "d", "seeds": list(range(SEEDS)),
        "provenance": PROVENANCE, "runs": runs, "missing": [], "splits": dict.fromkeys(datasets, "0123456789abcdef"),
        "paper": list(paper), "summaries": summaries, "means": {},
    }  # fmt: skip


def run_of(names, metrics, made_with=MADE_WITH, split="0123456789abcdef", images="fedcba9876543210"):
    """A run's `metrics.json`; `names` are dataset, backbone, variant and seed."""
    data = {"split": split, "content": images, "train": 4, "test": 4}
    return {"run": names, "digest": "d", "provenance": made_with, "data": data, "metrics": metrics}


def metrics_of_run(noise, tasks, joint=False):
    """Metrics of a run from a random accuracy matrix."""
    matrix = [[float(v) for v in noise.uniform(20, 100, size=t + 1)] for t in range(tasks)]
    curve = [float(np.mean(row)) for row in matrix]
    return {
        "accuracy_matrix": matrix,
        "accuracy": curve,
        "average_accuracy": float(np.mean(curve)),
        "final_accuracy": curve[-1],
        "forgetting": None if joint else forgetting(matrix),
        "backward_transfer": None if joint else backward_transfer(matrix),
        "learning_accuracy": None if joint else learning_accuracy(matrix),
    }


def summary_of(names, label, metrics):
    curves = np.array([each["accuracy"] for each in metrics])
    known = {name: [each[name] for each in metrics if each[name] is not None] for name in METRICS}
    return names | {
        "dataset_label": names["dataset"].title(),
        "dataset_note": "",
        "task_sizes": [2] * curves.shape[1],
        "backbone_label": names["backbone"].title(),
        "label": label,
        "method_label": label,
        "protocol": "joint" if names["variant"] == "joint" else "incremental",
        "seeds": list(range(len(metrics))),
        "metrics": {name: summary(values) if values else None for name, values in known.items()},
        "accuracy": {"mean": curves.mean(axis=0).tolist(), "std": curves.std(axis=0, ddof=1).tolist()},
    }


def paper_tables():
    """The tables of the paper, as `ntkcl.reporting.paper_numbers` returns them."""
    tables = {}
    with (ROOT / "params/published/ntk_cl_paper.csv").open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            new = {"number": line["table"], "title": "A table", "backbone": line["backbone"], "methods": {}}
            new |= {"datasets": [], "dataset_labels": [], "dataset_notes": [], "provenance": PROVENANCE}
            methods = tables.setdefault(line["table"], new)["methods"]
            method = methods.setdefault(line["method"], {"label": line["method"], "venue": "", "numbers": {}})
            cell = {"mean": line["mean"], "std": line["std"]}
            method["numbers"].setdefault(line["dataset"], {})[line["metric"]] = cell
    return [table | {"methods": list(table["methods"].values())} for table in tables.values()]


def without_runs(content):
    """The same study before any run."""
    nothing = {"seeds": [], "metrics": dict.fromkeys(METRICS), "accuracy": {"mean": None, "std": None}}
    return content | {"runs": [], "summaries": [row | nothing for row in content["summaries"]]}


def analysis(noise):
    """Comparison of the study `analysis`, with random numbers."""
    study = yaml.safe_load((ROOT / "params/studies/analysis.yaml").read_text())

    def difference(_):
        mean = float(noise.normal() * noise.choice([0.5, 3, 15]))
        half = float(noise.uniform(0.2, 4))
        return {"mean": mean, "low": mean - half, "high": mean + half, "n": 3}

    def measured(metric):
        scale = {"effective_dimension": 40.0, "alignment": 0.8, "coupling": 0.5, "drift": 0.3, "overlap": 0.4}
        level = scale.get(metric, 20.0)
        return {"mean": level * float(noise.uniform(0.8, 1.1)), "std": level * 0.04, "n": 3}

    def cells(make, names):
        return {condition: {name: make(name) for name in names} for condition in CONDITIONS}

    def ranked(condition, gap, term):
        x = noise.lognormal(0, 1, 130)
        points = [[float(a), float(b)] for a, b in zip(x, 2 * np.log(x) + noise.normal(size=130), strict=True)]
        return {
            "condition": condition, "gap": gap, "gap_label": gap.replace("_", " "), "term": term, "term_label": term,
            "rho": 0.71, "low": 0.52, "high": 0.84, "n": 3, "points": points, "within": NO_CORRELATION,
        }  # fmt: skip

    measures = (*MEASURES, "coupling", "overlap")
    sweeps = [
        {"name": name, "title": sweep["title"], "axis": sweep["axis"], "points": [
            {"variant": variant, "value": float(value), "cells": cells(measured, measures)}
            for variant, value in sweep["points"].items()
        ]}
        for name, sweep in study["sweeps"].items()
    ]  # fmt: skip
    named = yaml.safe_load((ROOT / "params/methods/ntk_cl/ablations.yaml").read_text())
    method = Method(label="NTK-CL", learner="ntk_cl", variants=named)
    ablations = [
        {"title": group["title"], "rows": [
            {"variant": variant, "label": variant_change(method, variant), "cells": cells(difference, ACCURACIES)}
            for variant in group["variants"]
        ]}
        for group in study["ablations"]
    ]  # fmt: skip
    methods = {"ntk_cl": "NTK-CL", "finetuning": "Fine-tuning"}
    return {
        "study": "analysis", "title": study["title"], "reference": "ntk_cl", "reference_label": "NTK-CL",
        "seeds": [0, 1, 2], "provenance": PROVENANCE, "how": {"ridge": 0.01},
        "conditions": [
            {"name": name, "label": label, "backbone_label": "ViT-micro", "note": "", "tasks": TASKS}
            for name, label in CONDITIONS.items()
        ],
        "reference_cells": {name: {} for name in CONDITIONS},
        "ablations": ablations, "sweeps": sweeps, "methods": [],
        "ranking": [
            ranked(condition, gap, term)
            for gap, term in (("task_specific_gap", "complexity"), ("same_classes_gap", "drift"))
            for condition in CONDITIONS
        ],
        "forecast": [
            {"condition": condition, "variant": variant, "label": label, "correlation_in_all": None,
             "correlation": {"mean": 0.83, "std": 0.05, "n": 3}, "slope": {"mean": 0.9, "std": 0.1, "n": 3},
             "drops": NO_CORRELATION | {"points": []}}
            for condition in CONDITIONS for variant, label in methods.items()
        ],
        "examples": {
            condition: {variant: f"runs/{condition}/{variant}/seed0/kernel.safetensors" for variant in methods}
            for condition in CONDITIONS
        },
    }  # fmt: skip


def kernel_arrays(noise, names):
    tasks = np.sort(np.arange(IMAGES) % TASKS)
    centers = noise.normal(size=(TASKS, 30))
    images = centers[tasks] + noise.normal(size=(IMAGES, 30))
    kernel = images @ images.T
    arrays = {
        "kernel/before": kernel,
        "kernel/after": kernel + 5 * noise.normal(size=(IMAGES, 1)) ** 2,
        "kernel/all": kernel,
    }
    arrays |= {f"features/{name}": images + noise.normal(size=images.shape) for name in names}
    for task in range(TASKS):
        spectrum = np.exp(-np.arange(40) / (3 + task)) * noise.uniform(1, 20)
        arrays |= {f"spectrum/learned/{task}": spectrum, f"spectrum/end/{task}": 0.6 * spectrum**1.2}
        if task:
            change = noise.normal(-0.2 * task, 1, 800)
            arrays |= {
                f"forecast/{task}/predicted": change,
                f"forecast/{task}/measured": 0.8 * change + 0.4 * noise.normal(size=800),
            }
    floats = {name: np.ascontiguousarray(values, np.float32) for name, values in arrays.items()}
    return floats | {"kernel/tasks": tasks.astype(np.int64), "features/tasks": tasks.astype(np.int64)}


def kernel_measures(coupling, drops):
    """A run's `kernel.json`, as far as figures need it."""
    forecast = {"correlation": None, "correlation_in_all": None, "slope": None}
    return {
        "digest": "d", "provenance": MADE_WITH, "how": {}, "overlap": None, "coupling": coupling,
        "gaps": dict.fromkeys(("task_specific_gap", "task_interplay_gap", "same_classes_gap"), [None] * TASKS),
        "forecast": [forecast | {"drop_forecast": a, "drop_measured": b} for a, b in drops],
    }  # fmt: skip


def write_analysis(folder):
    """Write a comparison, and the files of runs that it names, into `folder`."""
    noise = np.random.default_rng(0)
    content = analysis(noise)
    (folder / "reports").mkdir(parents=True, exist_ok=True)
    (folder / "reports/analysis.json").write_text(json.dumps(content))
    for variants in content["examples"].values():
        for variant, path in variants.items():
            names = ("channel", "patch", "hybrid") if variant == "ntk_cl" else ("feature",)
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            save_file(kernel_arrays(noise, names), folder / path)
            drops = noise.uniform(-1, 12, size=(TASKS - 1, 2)).tolist()
            coupling = (np.eye(TASKS) * 0.6 + 0.4 * noise.uniform(size=(TASKS, TASKS))).tolist()
            (folder / path).with_suffix(".json").write_text(json.dumps(kernel_measures(coupling, drops)))
    return content
