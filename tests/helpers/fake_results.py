"""Results that nobody measured, in the form of the real ones: a study's metrics, and an analysis of realistic size."""

import csv
import json
from pathlib import Path

import numpy as np
import yaml
from safetensors.numpy import save_file

from ntkcl.metrics.continual import forgetting
from ntkcl.metrics.statistics import summary
from ntkcl.runs import variant_change
from ntkcl.settings.models import Method

ROOT = Path(__file__).parents[2]
SETTINGS = {"digits/vit_micro": "Digits", "glyphs/vit_micro": "Glyphs"}
METRICS = ("average_accuracy", "final_accuracy", "forgetting")
MEASURES = (*METRICS, "task_specific_gap", "same_classes_gap", "effective_dimension", "drift", "alignment")
METHODS = {"finetuning": "Fine-tuning", "ntk_cl": "NTK-CL", "joint": "Joint training"}
TASKS, IMAGES, SEEDS = 5, 40, 3
SIDES = ("predicted", "measured")


def metrics_of(variants, datasets=("digits", "glyphs"), backbone="vit_micro", paper=(), tasks=TASKS):
    """What an aggregated study of `variants`, labels by name, says; the accuracies are made up."""
    noise, runs, summaries = np.random.default_rng(0), [], []
    for dataset in datasets:
        for variant, label in variants.items():
            names = {"dataset": dataset, "backbone": backbone, "variant": variant}
            made = [one_run(noise, tasks, variant == "joint") | {"run": names | {"seed": s}} for s in range(SEEDS)]
            runs += made
            summaries.append(summary_of(names, label, [run["metrics"] for run in made]))
    return {"summaries": summaries, "runs": runs, "paper": list(paper), "missing": []}


def one_run(noise, tasks, joint):
    matrix = [[float(v) for v in noise.uniform(20, 100, size=t + 1)] for t in range(tasks)]
    curve = [float(np.mean(row)) for row in matrix]
    lost = None if joint else forgetting(matrix)
    averages = {"average_accuracy": float(np.mean(curve)), "final_accuracy": curve[-1]}
    return {"metrics": {"accuracy_matrix": matrix, "accuracy": curve, "forgetting": lost} | averages}


def summary_of(names, label, metrics):
    curves = np.array([each["accuracy"] for each in metrics])
    known = {name: [each[name] for each in metrics if each[name] is not None] for name in METRICS}
    labels = {"dataset_label": names["dataset"].title(), "backbone_label": names["backbone"].title(), "label": label}
    return names | labels | {
        "method_label": label,
        "protocol": "joint" if names["variant"] == "joint" else "incremental",
        "seeds": list(range(len(metrics))),
        "metrics": {name: summary(values) if values else None for name, values in known.items()},
        "accuracy": {"mean": curves.mean(axis=0).tolist(), "std": curves.std(axis=0, ddof=1).tolist()},
    }  # fmt: skip


def paper_tables():
    """The tables of the paper, as `ntkcl.reporting.paper_numbers` gives them."""
    tables = {}
    with (ROOT / "params/published/ntk_cl_paper.csv").open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            new = {"number": line["table"], "backbone": line["backbone"], "methods": {}}
            methods = tables.setdefault(line["table"], new)["methods"]
            method = methods.setdefault(line["method"], {"label": line["method"], "numbers": {}})
            cell = {"mean": line["mean"], "std": line["std"]}
            method["numbers"].setdefault(line["dataset"], {})[line["metric"]] = cell
    return [table | {"methods": list(table["methods"].values())} for table in tables.values()]


def without_runs(content):
    """The same study before any run."""
    nothing = {"seeds": [], "metrics": dict.fromkeys(METRICS), "accuracy": {"mean": None, "std": None}}
    return content | {"runs": [], "summaries": [row | nothing for row in content["summaries"]]}


def analysis(noise):
    """What an analysis of the study of that name says; the numbers are made up."""
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
        return {setting: {name: make(name) for name in names} for setting in SETTINGS}

    def ranked(setting, gap, term):
        x = noise.lognormal(0, 1, 130)
        points = [[float(a), float(b)] for a, b in zip(x, 2 * np.log(x) + noise.normal(size=130), strict=True)]
        return {
            "setting": setting, "gap": gap, "gap_label": gap.replace("_", " "), "term": term, "term_label": term,
            "rho": 0.71, "low": 0.52, "high": 0.84, "n": 3, "points": points,
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
            {"variant": variant, "label": variant_change(method, variant), "cells": cells(difference, METRICS)}
            for variant in group["variants"]
        ]}
        for group in study["ablations"]
    ]  # fmt: skip
    methods = {"ntk_cl": "NTK-CL", "finetuning": "Fine-tuning"}
    return {
        "study": "analysis", "title": study["title"], "reference": "ntk_cl", "reference_label": "NTK-CL",
        "seeds": [0, 1, 2], "provenance": {},
        "settings": [
            {"name": name, "label": label, "backbone_label": "ViT-micro", "tasks": TASKS}
            for name, label in SETTINGS.items()
        ],
        "ablations": ablations, "sweeps": sweeps,
        "ranking": [
            ranked(setting, gap, term)
            for gap, term in (("task_specific_gap", "complexity"), ("same_classes_gap", "drift"))
            for setting in SETTINGS
        ],
        "forecast": [
            {"setting": setting, "variant": variant, "label": label,
             "correlation": {"mean": 0.83, "std": 0.05, "n": 3}, "slope": {"mean": 0.9, "std": 0.1, "n": 3}}
            for setting in SETTINGS for variant, label in methods.items()
        ],
        "examples": {
            setting: {variant: f"runs/{setting}/{variant}/seed0/kernel.safetensors" for variant in methods}
            for setting in SETTINGS
        },
    }  # fmt: skip


def kernel_arrays(noise, names):
    tasks = np.sort(np.arange(IMAGES) % TASKS)
    centres = noise.normal(size=(TASKS, 30))
    images = centres[tasks] + noise.normal(size=(IMAGES, 30))
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


def write_analysis(folder):
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
            numbers = {
                "coupling": (np.eye(TASKS) * 0.6 + 0.4 * noise.uniform(size=(TASKS, TASKS))).tolist(),
                "forecast": [{"drop_forecast": a, "drop_measured": b} for a, b in drops],
            }
            (folder / path).with_suffix(".json").write_text(json.dumps(numbers))
    return content
