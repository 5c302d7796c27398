"""Ranks of variants: over datasets and seeds, of seeds that have all runs."""

import copy

from ntkcl.reporting.figures.ranks import ranked
from ntkcl.reporting.study_metrics import StudyMetrics
from tests.helpers.fake_results import metrics_of

VARIANTS = {"a": "A", "b": "B", "c": "C", "joint": "Joint training"}
ACCURACY = {"a": 50.0, "b": 70.0, "c": 60.0, "joint": 90.0}


def study_with(change=lambda run: 0.0):
    """A study whose variants have these accuracies, plus `change` of a run."""
    content = copy.deepcopy(metrics_of(VARIANTS))
    for row in content["summaries"]:
        row["protocol"] = "joint" if row["variant"] == "joint" else "incremental"
    for run in content["runs"]:
        run["metrics"]["average_accuracy"] = ACCURACY[run["run"]["variant"]] + change(run["run"])
    return content


def test_the_best_variant_comes_first_and_joint_training_is_not_ranked():
    rows = ranked(StudyMetrics(**study_with()))
    assert [(row.label, row.rank["mean"]) for row in rows] == [("B", 1), ("C", 2), ("A", 3)]
    assert [row.behind and row.behind["mean"] for row in rows] == [None, -10, -20]
    assert rows[1].behind["n"] == 3


def test_ranks_are_means_over_datasets_and_seeds():
    """On the glyphs, C is the best with one of three seeds."""
    content = study_with(lambda run: 20.0 * (run["dataset"] == "glyphs" and run["variant"] == "c" and run["seed"] == 1))
    rows = {row.label: row for row in ranked(StudyMetrics(**content))}
    assert abs(rows["B"].rank["mean"] - (5 * 1 + 2) / 6) < 1e-12
    assert rows["C"].on_datasets == [2, (2 + 1 + 2) / 3]


def test_a_seed_without_all_runs_is_left_out():
    content = study_with()
    del content["runs"][0]
    assert ranked(StudyMetrics(**content))[0].rank["n"] == 2
    content["runs"] = []
    assert ranked(StudyMetrics(**content)) == []
