"""A step in parts has the loss and the gradients of the whole batch; without memory, the line says what fits."""

from collections.abc import Iterator

import pytest
import torch

from ntkcl.errors import UserError
from ntkcl.methods.learner import Learner
from ntkcl.registry import METHODS
from ntkcl.settings.models import Training
from ntkcl.tasks import tasks_of
from ntkcl.training.loop import learn_task
from tests.helpers.learners import DEPTH, learner_of, task_images


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def new_learner(method: str) -> Learner:
    fields = METHODS.load(method).Settings.model_fields
    return learner_of(method, DEPTH, **{name: 0.0 for name in fields if name.endswith("_dropout")})


def learn(learner: Learner, micro_batch: int | None) -> list[list[float]]:
    """Three tasks; the rows of their losses."""
    training, rows = Training(lr=0.01, epochs=2, batch_size=7, micro_batch=micro_batch), []
    for task in tasks_of([2, 3, 2]):
        torch.manual_seed(task.index)
        rows += learn_task(learner, task, task_images(range(task.first_class, task.classes_learned)), training).rows
    return rows


@pytest.mark.parametrize("micro_batch", [1, 3])
@pytest.mark.parametrize("method", METHODS.names())
def test_a_step_in_parts_is_the_same_step(method, micro_batch):
    whole, parts = new_learner(method), new_learner(method)
    losses, losses_in_parts = learn(whole, None), learn(parts, micro_batch)
    assert torch.allclose(torch.tensor(losses_in_parts), torch.tensor(losses), rtol=1e-9, atol=1e-12, equal_nan=True)
    for name, tensor in whole.state().items():
        assert torch.allclose(parts.state()[name], tensor, rtol=1e-8, atol=1e-11), name


@pytest.mark.parametrize("fitting, line", [(2, "set training.micro_batch to 2, which fits"), (0, "more memory")])
def test_a_step_without_memory_says_what_fits(monkeypatch, fitting, line):
    """A GPU's memory ends: simulated, by the error that torch raises then."""
    learner = new_learner("ease")
    features = learner.training_features

    def limited(frozen, drawn):
        if len(frozen[0]) > fitting:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return features(frozen, drawn)

    monkeypatch.setattr(learner, "training_features", limited)
    with pytest.raises(UserError, match=line) as error:
        learn(learner, None)
    assert "7 images at once" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("method, vote", [("l2p", "always"), ("l2p", "training"), ("dualprompt", True)])
def test_images_that_vote_are_not_divided(method, vote):
    with pytest.raises(UserError, match="with batch_vote"):
        learn(learner_of(method, DEPTH, batch_vote=vote), 3)
