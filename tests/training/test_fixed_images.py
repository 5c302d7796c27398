"""What is computed once instead of in every epoch changes nothing."""

import pytest
import torch

from ntkcl.runs import resolve
from ntkcl.training import fixed_images
from ntkcl.training.train import train_task

CPU = torch.device("cpu")


@pytest.mark.parametrize("variant", ["ntk_cl", "joint"])
def test_training_with_fixed_images_gives_the_same_bytes(tiny, monkeypatch, variant):
    run = resolve("digits", "vit_tiny", variant, 0)
    files = [path for task in run.tasks for path in (run.state_path(task.index), _losses(run, task))]
    results = []
    for limit in (fixed_images.MAX_BYTES, 0):
        monkeypatch.setattr(fixed_images, "MAX_BYTES", limit)
        for task in run.tasks:
            train_task(run, task.index, CPU)
        results.append([path.read_bytes() for path in files])
    assert results[0] == results[1]


def _losses(run, task):
    return run.state_path(task.index).with_name("losses.csv")
