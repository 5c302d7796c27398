"""What is measured inside a finished run: kernels, gaps and forecasts, on real runs of the tiny study."""

import json
import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.numpy import load_file
from torch import nn

from ntkcl.analysis import forecasting
from ntkcl.analysis.learner_functions import Scores
from ntkcl.analysis.measure import complexities, measure
from ntkcl.analysis.run_kernels import Kernels, kernels_of, mean_eigenvalue, of_scores
from ntkcl.analysis.trained_run import TrainedRun
from ntkcl.errors import UserError
from ntkcl.metrics.continual import read_predictions
from ntkcl.ntk import kernel, of_module
from ntkcl.ntk.ridge import forecast
from ntkcl.runs import resolve
from ntkcl.storage.files import read_json, write_sealed_json
from ntkcl.training.evaluate import evaluate
from ntkcl.training.train import train_task
from tests.helpers.learners import CPU
from tests.helpers.projects import clear_settings, working_in

MEMORY = 1 << 28  # bytes


def finish(variant):
    """A run of the tiny study's dataset, trained and evaluated."""
    run = resolve("digits", "vit_tiny", variant, 0)
    for task in run.tasks:
        train_task(run, task.index, CPU)
    evaluate(run, CPU)
    return run


@pytest.fixture
def ntk_cl(finished):
    return resolve("digits", "vit_tiny", "ntk_cl", 0)


def take_few_images(patch):
    """Kernels of a few images: all numbers are defined for any number of them."""
    for name, count in (("KERNEL_IMAGES_PER_TASK", 12), ("FORECAST_TEST_IMAGES", 20), ("FEATURE_IMAGES_PER_TASK", 20)):
        patch.setattr(f"ntkcl.analysis.measure.{name}", count)


@pytest.fixture(autouse=True)
def few_images(monkeypatch):
    take_few_images(monkeypatch)


@pytest.fixture(scope="module")
def measured(once, tiny_finished):
    """The folder of a run with its kernel; do not change it."""

    def fill(folder):
        shutil.copytree(tiny_finished, folder)
        with pytest.MonkeyPatch.context() as patch, working_in(folder):
            take_few_images(patch)
            measure(resolve("digits", "vit_tiny", "ntk_cl", 0), CPU, MEMORY)

    return once("tiny-measured", fill) / "runs/digits/vit_tiny/ntk_cl/seed0"


def test_measuring_leaves_numbers_and_arrays_next_to_the_metrics(measured):
    written, arrays = (measured / "kernel.json").read_text(), load_file(measured / "kernel.safetensors")
    content = json.loads(written)
    assert "NaN" not in written
    count = len(arrays["kernel/tasks"])
    assert (np.diff(arrays["kernel/tasks"]) >= 0).all() and set(arrays["kernel/tasks"]) == {0, 1}
    for name in ("kernel/before", "kernel/after", "kernel/all"):
        assert arrays[name].shape == (count, count)
        assert np.allclose(arrays[name], arrays[name].T, rtol=1e-4)
    assert content["drift"][-1] == 0 and content["alignment"][-1] == pytest.approx(1)  # nothing comes after it
    assert content["drift"][0] > 0 and content["alignment"][0] <= 1
    assert np.allclose(np.diag(content["coupling"]), 1) and np.allclose(np.diag(content["overlap"]), 1)
    assert 0 < content["coupling"][0][1] <= 1


def test_equal_memory_gives_equal_bytes_and_less_memory_nearly_equal_numbers(measured, ntk_cl):
    content = measure(ntk_cl, CPU, MEMORY)
    assert read_json(measured / "kernel.json") == json.loads(json.dumps(content))
    for name in ("kernel.json", "kernel.safetensors"):
        assert (ntk_cl.folder / name).read_bytes() == (measured / name).read_bytes()
    frugal = measure(ntk_cl, CPU, MEMORY // 16)
    assert frugal["coupling"][0][1] == pytest.approx(content["coupling"][0][1], rel=1e-4)


def test_gaps_are_differences_of_accuracies(measured, ntk_cl):
    gaps = json.loads((measured / "kernel.json").read_text())["gaps"]
    predictions = read_predictions(ntk_cl.folder / "predictions.csv.gz")
    right = 100.0 * (predictions["class"] == predictions["predicted"])
    first = predictions["class"] < ntk_cl.tasks[0].size
    learned, end = (right[first & (predictions["task"] == task)].mean() for task in (0, 1))
    assert gaps["task_specific_gap"][0] == pytest.approx(gaps["train"][0] - learned)
    assert gaps["task_interplay_gap"] == pytest.approx([learned - end, 0])
    trained = TrainedRun(ntk_cl, CPU)
    images = trained.stream.test_images(0, 6, CPU)
    scores = torch.cat([trained.learners[1].scores(batch) for batch, _ in images.eval_batches()])
    among_six = 100 * (scores[:, :6].argmax(1) == images.labels).double().mean().item()
    assert gaps["same_classes_gap"] == pytest.approx([learned - among_six, 0])
    assert sum(gaps["images"]) == len(trained.stream.is_train.nonzero())


def test_complexity_falls_with_the_images_learned_from(ntk_cl):
    trained = TrainedRun(ntk_cl, CPU)
    samples = [trained.sample(task, 12, "train") for task in trained.tasks]
    kernels = kernels_of(trained, [sample.pixels for sample in samples], MEMORY)
    few, many = (complexities(kernels, samples, trained.tasks, [count, count]) for count in (100, 400))
    for name in ("complexity", "complexity_end", "rademacher"):
        assert few[name] == pytest.approx([2 * value for value in many[name]])
    scaled = Kernels([9 * k for k in kernels.learned], kernels.end, kernels.before, kernels.after, kernels.all)
    again = complexities(scaled, samples, trained.tasks, [100, 100])
    assert again["complexity"] == pytest.approx([value / 3 for value in few["complexity"]])
    assert again["rademacher"] == pytest.approx(few["rademacher"])  # whatever the scale of the scores


def test_a_method_without_training_has_gaps_and_no_kernel(finished):
    content = measure(resolve("digits", "vit_tiny", "simplecil", 0), CPU, MEMORY)
    assert len(content["gaps"]["same_classes_gap"]) == 2 and not {"coupling", "forecast"} & set(content)
    assert content["gaps"]["same_classes_gap"] == pytest.approx([0, 0])  # nothing is trained: nothing changes


def test_runs_in_bfloat16_are_measured_in_float32(tiny):
    with (tiny / "params/methods/ntk_cl.yaml").open("a") as file:
        file.write("variants: {half: {training: {precision: bfloat16, epochs: 1}}}\n")
    content = measure(finish("ntk_cl/half"), CPU, MEMORY)
    assert content["drift"][0] > 0 and content["provenance"][0]["device"].startswith("CPU")


def test_metrics_of_other_settings_are_refused(ntk_cl):
    path = ntk_cl.folder / "metrics.json"
    write_sealed_json(path, read_json(path) | {"digest": "0" * 12})
    with pytest.raises(UserError, match="computed with other settings"):
        measure(ntk_cl, CPU, MEMORY)


def test_a_joint_run_has_nothing_to_measure(tiny):
    with pytest.raises(UserError, match="learns a single task"):
        measure(resolve("digits", "vit_tiny", "joint", 0), CPU, MEMORY)


def test_the_kernel_of_a_state_is_that_of_its_gradients(ntk_cl):
    trained = TrainedRun(ntk_cl, CPU)
    learner, images = trained.learners[1], trained.sample(trained.tasks[1], 4, "train").pixels
    expected = torch.zeros(len(images), len(images), dtype=torch.float64)
    weights = learner.trained_parameters()
    for classes in range(4, 6):
        rows = []
        for image in images:
            score = learner.scores_from_features(learner.features(learner.frozen_forward(image[None])))[0, classes]
            gradients = torch.autograd.grad(score, weights, allow_unused=True)
            rows.append(torch.cat([g.flatten() for g in gradients if g is not None]).double())
        rows = torch.stack(rows)
        expected += rows @ rows.T / 2
    assert torch.allclose(of_scores(learner, images, slice(4, 6), MEMORY), expected, rtol=1e-4)


@pytest.fixture
def three_tasks(tiny):
    path = tiny / "params/datasets/digits.yaml"
    path.write_text(path.read_text().replace("classes_per_task: 4", "classes_per_task: 2"))
    with (tiny / "params/methods/ntk_cl.yaml").open("a") as file:
        file.write("variants: {fast: {settings: {adapter_scale: 1}, training: {lr: 0.1, batch_size: 16}}}\n")
    clear_settings()
    return finish("ntk_cl/fast")


def test_measured_change_is_that_of_the_trained_parameters_alone(three_tasks):
    trained = TrainedRun(three_tasks, CPU)
    old, new = trained.sample(trained.tasks[0], 12, "test"), trained.sample(trained.tasks[1], 8, "train")
    change = forecasting.change_by(trained, trained.tasks[1], old, new, 1.0, MEMORY)
    before, after = trained.learners[:2]
    with torch.no_grad():
        scores = [learner.scores(old.pixels)[:, :6].double() for learner in (before, after)]
        mixed = trained.learner_after(trained.tasks[0])
        mixed.current_adapters.load_state_dict(after.current_adapters.state_dict())
        mixed.fusion.load_state_dict(after.fusion.state_dict())
        by_training = mixed.scores(old.pixels)[:, :6].double() - scores[0]
    assert torch.allclose(change.before, scores[0]) and torch.allclose(change.in_all, scores[1] - scores[0])
    assert torch.allclose(change.measured, by_training, atol=1e-6)
    assert not torch.allclose(change.measured, change.in_all, atol=1e-6)  # the previous copy has changed, too
    assert change.drop(torch.zeros_like(change.before)) == 0
    again = forecasting.change_by(TrainedRun(three_tasks, CPU), trained.tasks[1], old, new, 1.0, MEMORY)
    assert torch.equal(again.forecast, change.forecast)  # new proxies do not depend on earlier random numbers


def test_a_forecast_begins_where_training_began(tiny):
    """If a task trains nothing, the forecast starts from the proxies after it."""
    with (tiny / "params/methods/ntk_cl.yaml").open("a") as file:
        file.write("variants: {first: {training: {epochs: 0, first_epochs: 1}}}\n")
    trained = TrainedRun(finish("ntk_cl/first"), CPU)
    after = trained.learners[1]
    learner = trained.learner_after(trained.tasks[0])
    learner.add_task(trained.tasks[1])
    assert torch.equal(learner.proxies.weight, after.proxies.weight)


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
    trained, model = TrainedRun(ntk_cl, CPU), LinearHead(32, summed_over)
    learner = trained.learners[1]
    with torch.no_grad():
        old, new = (
            learner.named_features(learner.extract_features(trained.sample(task, 6, split).pixels))["hybrid"].double()
            for task, split in zip(trained.tasks, ("test", "train"), strict=True)
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
    trained = TrainedRun(ntk_cl, CPU)
    learner, images = trained.learners[1], trained.sample(trained.tasks[1], 4, "test").pixels
    frozen = learner.frozen_forward(images)
    assert torch.equal(Scores(learner, slice(2, 5))(*frozen), learner.scores(images)[:, 2:5])
