"""The benchmark's numbers are of what it says."""

import json

import pytest
import torch
from click.testing import CliRunner

from ntkcl.bench.memory import kept_for_backward
from ntkcl.commands.cli import main
from tests.helpers.interruptions import FIRST, new_learner


def test_every_combination_has_a_row(tiny):
    arguments = [
        "bench",
        "--dataset",
        "digits",
        "--backbone",
        "vit_tiny",
        "--variant",
        "ntk_cl",
        "--variant",
        "simplecil",
    ]
    arguments += ["--batch", "4", "--batch", "8", "--precision", "float32", "--precision", "bfloat16"]
    result = CliRunner().invoke(main, [*arguments, "--seconds", "0", "--json", "b.json", "--device", "cpu"])
    assert result.exit_code == 0, result.output
    content = json.loads((tiny / "b.json").read_text())
    kinds = [(row["part"], row["variant"], row["batch"], row["precision"]) for row in content["rows"]]
    both = ("float32", "bfloat16")
    expected = {("train", "ntk_cl", batch, precision) for batch in (4, 8) for precision in both}
    expected |= {("evaluate", variant, 4, precision) for variant in ("ntk_cl", "simplecil") for precision in both}
    assert set(kinds) == expected and len(kinds) == len(expected)
    assert set(content["ceilings"]) == set(both)
    for row in content["rows"]:
        assert row["operations_per_second"] == pytest.approx(row["operations_per_image"] * row["images_per_second"])
        assert min(row["rates"]) <= row["images_per_second"] <= max(row["rates"])
        assert f" {row['variant']} " in result.output
    trained = {row["batch"]: row for row in content["rows"] if row["part"] == "train" and row["precision"] == "float32"}
    assert trained[4]["operations_per_image"] == pytest.approx(trained[8]["operations_per_image"], rel=0.05)
    evaluated = [row["operations_per_image"] for row in content["rows"] if row["part"] == "evaluate"]
    assert trained[8]["operations_per_image"] > max(evaluated)


def test_what_is_kept_for_the_backward_pass_is_what_autograd_keeps():
    """Counted with shapes alone, and with the real tensors."""
    learner, _ = new_learner("adapter_finetuning")
    learner.add_task(FIRST)
    learner.train()
    images, labels = torch.rand(6, 1, 8, 8), torch.arange(6) % 2
    weights = {tensor.data_ptr() for tensor in (*learner.parameters(), *learner.buffers())}
    kept = {}

    def keep(tensor):
        if tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = (tensor.untyped_storage().nbytes(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss, _ = learner.loss(learner.extract_features(images), labels)
    assert loss.requires_grad
    expected = sum(size for size, _ in kept.values())
    assert kept_for_backward(learner, images, labels) == pytest.approx(expected, rel=0.05)
