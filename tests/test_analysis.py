"""What is measured inside a finished run: kernels, gaps and forecasts, on real runs of the tiny study."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.numpy import load_file
from torch import nn

from ntkcl.analysis import forecasting
from ntkcl.analysis.history import History
from ntkcl.analysis.kernels import mean_eigenvalue, of_scores
from ntkcl.analysis.outputs import Scores
from ntkcl.analysis.run import measure
from ntkcl.config import resolve
from ntkcl.errors import UserError
from ntkcl.metrics import read_predictions
from ntkcl.ntk import kernel, of_module
from ntkcl.ntk.ridge import forecast
from ntkcl.training.evaluate import evaluate
from ntkcl.training.train import train_task

CPU, MEMORY = torch.device("cpu"), 1 << 28


def finished(variant, dataset="digits", backbone="vit_tiny"):
    torch.set_num_threads(1)
    run = resolve(dataset, backbone, variant, 0)
    for task in range(len(run.tasks)):
        train_task(run, task, CPU)
    evaluate(run, CPU)
    return run


@pytest.fixture
def ntk_cl(tiny):
    return finished("ntk_cl")


def test_measuring_leaves_numbers_and_arrays_beside_the_metrics(ntk_cl):
    content = measure(ntk_cl, CPU, MEMORY)
    written = (ntk_cl.folder / "kernel.json").read_text()
    assert json.loads(written) == json.loads(json.dumps(content)) and "NaN" not in written
    arrays = load_file(ntk_cl.folder / "kernel.safetensors")
    count = len(arrays["kernel/tasks"])
    assert (np.diff(arrays["kernel/tasks"]) >= 0).all() and set(arrays["kernel/tasks"]) == {0, 1}
    for name in ("kernel/before", "kernel/after", "kernel/all"):
        assert arrays[name].shape == (count, count)
        assert np.allclose(arrays[name], arrays[name].T, rtol=1e-4)
    assert content["drift"][-1] == 0 and content["alignment"][-1] == pytest.approx(1)  # nothing comes after it
    assert content["drift"][0] > 0 and content["alignment"][0] <= 1
    assert np.allclose(np.diag(content["coupling"]), 1) and np.allclose(np.diag(content["overlap"]), 1)
    assert 0 < content["coupling"][0][1] <= 1
    before = written, (ntk_cl.folder / "kernel.safetensors").read_bytes()
    measure(ntk_cl, CPU, MEMORY // 16)
    again = json.loads((ntk_cl.folder / "kernel.json").read_text())
    assert again["coupling"][0][1] == pytest.approx(content["coupling"][0][1], rel=1e-4)
    measure(ntk_cl, CPU, MEMORY)
    assert before == ((ntk_cl.folder / "kernel.json").read_text(), (ntk_cl.folder / "kernel.safetensors").read_bytes())


def test_gaps_are_differences_of_accuracies(ntk_cl):
    gaps, predictions = measure(ntk_cl, CPU, MEMORY)["gaps"], read_predictions(ntk_cl.folder / "predictions.csv.gz")
    right = 100.0 * (predictions["class"] == predictions["predicted"])
    first = predictions["class"] < ntk_cl.tasks[0].size
    learned, end = (right[first & (predictions["task"] == task)].mean() for task in (0, 1))
    assert gaps["task_specific_gap"][0] == pytest.approx(gaps["train"][0] - learned)
    assert gaps["task_interplay_gap"] == pytest.approx([learned - end, 0])


def test_a_method_without_training_has_gaps_and_no_kernel(tiny):
    content = measure(finished("simplecil"), CPU, MEMORY)
    assert set(content["gaps"]) == {"train", "task_specific_gap", "task_interplay_gap"} and "coupling" not in content


def test_a_joint_run_has_nothing_to_measure(tiny):
    with pytest.raises(UserError, match="learns a single task"):
        measure(resolve("digits", "vit_tiny", "joint", 0), CPU, MEMORY)


def test_the_kernel_of_a_state_is_that_of_its_gradients(ntk_cl):
    history = History(ntk_cl, CPU)
    learner, images = history.learners[1], history.sample(history.tasks[1], 4, "train").pixels
    expected = torch.zeros(len(images), len(images), dtype=torch.float64)
    weights = learner.trained_parameters()
    for classes in range(4, 6):
        rows = []
        for image in images:
            score = learner.scores_of(learner.features(learner.frozen(image[None])))[0, classes]
            gradients = torch.autograd.grad(score, weights, allow_unused=True)
            rows.append(torch.cat([g.flatten() for g in gradients if g is not None]).double())
        rows = torch.stack(rows)
        expected += rows @ rows.T / 2
    assert torch.allclose(of_scores(learner, images, slice(4, 6), MEMORY), expected, rtol=1e-4)


def test_measured_change_is_that_of_the_trained_parameters_alone(ntk_cl):
    history = History(ntk_cl, CPU)
    old, new = history.sample(history.tasks[0], 12, "test"), history.sample(history.tasks[1], 8, "train")
    change = forecasting.change_by(history, history.tasks[1], old, new, 1.0, MEMORY)
    with torch.no_grad():
        scores = [learner.scores(old.pixels)[:, :6].double() for learner in history.learners]
    assert torch.allclose(change.before, scores[0]) and torch.allclose(change.in_all, scores[1] - scores[0])
    assert not torch.allclose(change.measured, torch.zeros_like(change.measured))
    # after the last task nothing that is frozen changes: here the trained parameters are all that did
    assert torch.allclose(change.measured, change.in_all, atol=1e-6)
    assert change.drop(torch.zeros_like(change.before)) == 0


class LinearHead(nn.Module):
    """Logits that are linear in what is trained: a learner's head on frozen features."""

    def __init__(self, dim, classes):
        super().__init__()
        self.head = nn.Linear(dim, classes).double()

    def forward(self, features):
        return self.head(features)


@pytest.mark.parametrize("summed_over", [3, 1])
def test_forecast_is_exact_for_a_linear_head_on_frozen_features(ntk_cl, summed_over):
    """With the real features of a state and the kernel as it is computed, by least squares to convergence."""
    history, model = History(ntk_cl, CPU), LinearHead(32, summed_over)
    learner = history.learners[1]
    with torch.no_grad():
        old, new = (
            learner.named_features(learner.see(history.sample(task, 6, split).pixels))["hybrid"].double()
            for task, split in zip(history.tasks, ("test", "train"), strict=True)
        )
    targets = torch.randn(len(new), summed_over, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    parameters, at_new = of_module(model, (new,))
    _, at_old = of_module(model, (old,))
    old_new = kernel(parameters, at_old, at_new).flatten(2).flatten(0, 1)
    new_new = kernel(parameters, at_new).flatten(2).flatten(0, 1)
    before = model(old).detach()
    expected = forecast(old_new, new_new, targets - model(new).detach(), 0.0, summed_over)
    design = torch.cat((new, torch.ones(len(new), 1, dtype=torch.float64)), 1)
    step = torch.linalg.lstsq(design, targets - model(new).detach(), driver="gelsd").solution  # of least norm
    with torch.no_grad():
        model.head.weight += step[:-1].T
        model.head.bias += step[-1]
    assert F.mse_loss(model(new), targets) < 1e-12
    assert torch.allclose(model(old).detach() - before, expected, atol=1e-6)


def test_mean_eigenvalue_is_of_the_scale_of_a_kernel():
    assert mean_eigenvalue(torch.diag(torch.tensor([1.0, 2.0, 6.0]))) == pytest.approx(3)


def test_scores_of_some_classes_are_columns_of_all(ntk_cl):
    history = History(ntk_cl, CPU)
    learner, images = history.learners[1], history.sample(history.tasks[1], 4, "test").pixels
    frozen = learner.frozen(images)
    assert torch.equal(Scores(learner, slice(2, 5))(*frozen), learner.scores(images)[:, 2:5])
