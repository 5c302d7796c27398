"""How many images a second a learner trains on and predicts, and how large its states are."""

import sys
from collections.abc import Iterator
from dataclasses import replace

import torch

from ntkcl.backbones.files import build_vit
from ntkcl.bench.speed import EVALUATION_BATCH, evaluation_speed, training_speed
from ntkcl.pipeline.cost import THROUGHPUT, compute_key
from ntkcl.registry import METHODS
from ntkcl.runs import Run
from ntkcl.storage.files import read_json, write_json
from ntkcl.storage.provenance import device_name

SECONDS = 5.0  # of each measurement, about
ON_CPU = 4  # images of a step on a CPU, where larger batches take longer and are no faster


def measure_all(runs: list[Run], device: torch.device) -> Iterator[tuple[Run, dict[str, float]]]:
    """Measure every kind of computing that `runs` have, once each, and keep it in `runs/throughput.json`."""
    kinds = {compute_key(run): run for run in runs}
    for number, (key, run) in enumerate(kinds.items(), start=1):
        what = f"{run.variant} with {run.backbone_name}, batches of {run.training.batch_size}"
        print(f"timing {number} of {len(kinds)} kinds of runs: {what}", file=sys.stderr, flush=True)
        speed = _speed(run, device)
        known = read_json(THROUGHPUT) if THROUGHPUT.exists() else {}
        names = {"backbone": run.backbone_name, "variant": run.variant, "batch_size": run.training.batch_size}
        known.setdefault(device_name(device.type), {})[key] = names | {k: round(v, 1) for k, v in speed.items()}
        write_json(THROUGHPUT, known)
        yield run, speed


def _speed(run: Run, device: torch.device) -> dict[str, float]:
    """Images a second in training and in evaluation."""
    evaluated = EVALUATION_BATCH
    if device.type == "cpu":
        few = {"batch_size": min(ON_CPU, run.training.batch_size)}
        run, evaluated = replace(run, training=run.training.model_copy(update=few)), ON_CPU
    train, evaluate = training_speed(run, device, SECONDS), evaluation_speed(run, device, SECONDS, evaluated)
    return {"train": (train or evaluate).rate, "evaluate": evaluate.rate}


def state_bytes(run: Run) -> int:
    """The size of all states of a run together, in bytes; nothing is computed."""
    size = 0
    with torch.device("meta"):
        learner = METHODS.load(run.method.learner)(build_vit(run.backbone.architecture), run.settings)
        for task in run.tasks:
            learner.add_task(task)
            kept = [t for name, t in learner.state_dict().items() if not name.startswith("backbone.")]
            size += sum(tensor.numel() * tensor.element_size() for tensor in kept)
    return size
