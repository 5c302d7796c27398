"""Speed of a learner, in images a second of training and evaluation, and the size of its states."""

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

MEASURING_SECONDS = 5.0  # of each measurement, about
CPU_BATCH_SIZE = 4  # on a CPU larger batches take longer and are no faster


def measure_all(runs: list[Run], device: torch.device) -> Iterator[tuple[Run, dict[str, float]]]:
    """Measure every different computation of `runs` once, and store its speed in `runs/throughput.json`."""
    kinds = {compute_key(run): run for run in runs}
    for number, (key, run) in enumerate(kinds.items(), start=1):
        name = f"{run.variant} with {run.backbone_name}, batches of {run.training.batch_size}"
        print(f"measuring {number} of {len(kinds)}: {name}", file=sys.stderr, flush=True)
        speed = _speed(run, device)
        known = read_json(THROUGHPUT) if THROUGHPUT.exists() else {}
        names = {"backbone": run.backbone_name, "variant": run.variant, "batch_size": run.training.batch_size}
        known.setdefault(device_name(device.type), {})[key] = names | {k: round(v, 1) for k, v in speed.items()}
        write_json(THROUGHPUT, known)
        yield run, speed


def _speed(run: Run, device: torch.device) -> dict[str, float]:
    """Images per second in training and in evaluation."""
    evaluated = EVALUATION_BATCH
    if device.type == "cpu":
        small = {"batch_size": min(CPU_BATCH_SIZE, run.training.batch_size)}
        run, evaluated = replace(run, training=run.training.model_copy(update=small)), CPU_BATCH_SIZE
    train = training_speed(run, device, MEASURING_SECONDS)
    evaluate = evaluation_speed(run, device, MEASURING_SECONDS, evaluated)
    return {"train": (train or evaluate).rate, "evaluate": evaluate.rate}


def state_bytes(run: Run) -> int:
    """Size of all states of a run together, in bytes; nothing is computed."""
    size = 0
    with torch.device("meta"):
        learner = METHODS.load(run.method.learner)(build_vit(run.backbone.architecture), run.settings)
        for task in run.tasks:
            learner.add_task(task)
            own = learner.own_tensors()
            if task != run.tasks[-1]:  # what only the next task reads is kept after the last task alone
                own = {name: tensor for name, tensor in own.items() if not learner.is_for_next_task(name)}
            size += sum(tensor.numel() * tensor.element_size() for tensor in own.values())
    return size
