"""The metrics: a matrix computed by hand, and properties for any predictions."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ntkcl.errors import UserError
from ntkcl.metrics import continual

SIZES = [2, 1]
# image, class, predicted after task 0 (None: not learned yet), predicted after task 1
BY_HAND = [("a", 0, 0, 0), ("b", 0, 1, 0), ("c", 1, 1, 2), ("d", 1, 1, 1), ("e", 2, None, 2), ("f", 2, None, 0)]


def frame(rows):
    """Predictions from (task, image, class, predicted)."""
    return pd.DataFrame(rows, columns=["task", "image", "class", "predicted"]).assign(score=1.0)


def manual():
    rows = [(task, row[0], row[1], row[2 + task]) for row in BY_HAND for task in (0, 1) if row[2 + task] is not None]
    return frame(rows)


@st.composite
def predictions(draw, frozen=False):
    """Task sizes and predictions; `frozen_forward`: no prediction of an image changes after its first."""
    sizes = draw(st.lists(st.integers(1, 3), min_size=1, max_size=5))
    origin = continual.task_of_classes(sizes)
    random = np.random.default_rng(draw(st.integers(0, 2**16)))
    rows = []
    for label, first in enumerate(origin):
        for number in range(draw(st.integers(1, 3))):
            choices = random.integers(0, np.cumsum(sizes)[first:])
            choices[:] = choices[0] if frozen else choices
            rows += [(first + step, f"{label}/{number}", label, value) for step, value in enumerate(choices)]
    return sizes, frame(rows)


def test_matrix_by_hand():
    result = continual.run_metrics(manual(), SIZES, "incremental")
    assert result == {
        "accuracy_matrix": [[75.0], [75.0, 50.0]],
        "accuracy": [75.0, pytest.approx(100 * 4 / 6)],
        "average_accuracy": pytest.approx((75 + 100 * 4 / 6) / 2),
        "final_accuracy": pytest.approx(100 * 4 / 6),
        "forgetting": 0.0,
        "backward_transfer": 0.0,
        "learning_accuracy": 62.5,
        "test_images": 6,
    }


def test_forgetting_counts_from_the_best_and_backward_transfer_from_the_first():
    matrix = [[50.0], [80.0, 90.0], [60.0, 70.0, 100.0]]
    assert continual.forgetting(matrix) == pytest.approx(((80 - 60) + (90 - 70)) / 2)
    assert continual.backward_transfer(matrix) == pytest.approx(((60 - 50) + (70 - 90)) / 2)
    assert continual.learning_accuracy(matrix) == 80


def test_one_task_has_no_past():
    result = continual.run_metrics(frame([(0, "a", 0, 0), (0, "b", 1, 0)]), [2], "incremental")
    assert (result["forgetting"], result["backward_transfer"], result["learning_accuracy"]) == (None, None, 50.0)


def test_joint_has_no_metric_of_change():
    result = continual.run_metrics(manual(), SIZES, "joint")
    assert [result[name] for name in ("forgetting", "backward_transfer", "learning_accuracy")] == [None] * 3
    assert result["final_accuracy"] == pytest.approx(100 * 4 / 6)


@settings(max_examples=40, deadline=None)
@given(predictions())
def test_bounds_and_relations(case):
    sizes, rows = case
    result = continual.run_metrics(rows, sizes, "incremental")
    assert min(result["accuracy"]) - 1e-9 <= result["average_accuracy"] <= max(result["accuracy"]) + 1e-9
    for curve, row in zip(result["accuracy"], result["accuracy_matrix"], strict=True):
        assert min(row) >= 0 and max(row) <= 100
        assert min(row) - 1e-9 <= curve <= max(row) + 1e-9
    if len(sizes) > 1:
        assert result["forgetting"] >= -result["backward_transfer"] - 1e-9
        assert -100 <= result["backward_transfer"] <= 100
    else:
        assert result["forgetting"] is None


@settings(max_examples=30, deadline=None)
@given(predictions(), st.randoms(use_true_random=False))
def test_order_of_rows_does_not_matter(case, random):
    sizes, rows = case
    order = list(range(len(rows)))
    random.shuffle(order)
    assert continual.run_metrics(rows.iloc[order], sizes, "incremental") == continual.run_metrics(
        rows, sizes, "incremental"
    )


@settings(max_examples=30, deadline=None)
@given(predictions(frozen=True))
def test_nothing_is_forgotten_where_nothing_changes(case):
    sizes, rows = case
    result = continual.run_metrics(rows, sizes, "incremental")
    assert result["forgetting"] in (None, 0.0)
    assert result["backward_transfer"] in (None, 0.0)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda rows: rows.iloc[1:], "image a was not predicted"),
        (lambda rows: rows[rows["task"] == 0], "no test image of task 1"),
        (lambda rows: rows[rows["class"] != 2], "no test image of task 1"),
        (lambda rows: pd.concat([rows, rows.iloc[:1]]), "occurs twice"),
        (lambda rows: rows.assign(predicted=3), "column 'predicted'"),
        (lambda rows: rows.assign(task=rows["task"].where(rows["image"] != "e", 0)), "before its class"),
    ],
)
def test_incomplete_predictions_are_refused(damage, message):
    rows = manual()
    with pytest.raises(UserError, match=message):
        continual.run_metrics(damage(rows), SIZES, "incremental")


def test_predictions_come_back_from_their_file(tmp_path):
    path = tmp_path / "predictions.csv.gz"
    rows = manual().replace({"image": {"a": "NA", "b": "007"}})
    rows.to_csv(path, index=False)
    assert continual.read_predictions(path)["image"].tolist() == rows["image"].tolist()


def test_wrong_files_are_refused(tmp_path):
    path = tmp_path / "predictions.csv.gz"
    with pytest.raises(UserError, match="is missing"):
        continual.read_predictions(path)
    manual().drop(columns="score").to_csv(path, index=False)
    with pytest.raises(UserError, match="must have the columns"):
        continual.read_predictions(path)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(UserError, match="cannot be read"):
        continual.read_predictions(path)
