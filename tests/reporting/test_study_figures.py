"""Figures of a study: what they show, and that no two variants look alike."""

import numpy as np
import pytest

from ntkcl.reporting.figures.accuracy import accuracy_figure
from ntkcl.reporting.figures.forgetting import forgetting_figure
from ntkcl.reporting.figures.matrices import matrices_figure
from ntkcl.reporting.figures.published import published_figure
from ntkcl.reporting.figures.style import variant_styles
from ntkcl.reporting.study_metrics import StudyMetrics
from tests.helpers.fake_results import (
    METHODS,
    TASKS,
    metrics_of,
    paper_tables,
    without_runs,
)
from tests.helpers.figures import looks, names_of


def test_a_study_with_missing_runs_is_still_plotted():
    content = metrics_of(METHODS)
    missing = without_runs(content)["summaries"][1]
    content["runs"] = [run for run in content["runs"] if (missing["dataset"], missing["variant"]) != names_of(run)]
    content["summaries"][1] = missing
    metrics = StudyMetrics(**content)
    for draw in (accuracy_figure, forgetting_figure):
        assert [axes.get_title() for axes in draw(metrics).axes] == ["Digits\nVit_Micro", "Glyphs\nVit_Micro"]
    assert len([axes for axes in matrices_figure(metrics).axes if axes.images]) == 5


def test_no_two_variants_differ_in_color_alone():
    variants = {f"method_{index}": f"Method {index}" for index in range(30)} | {"joint": "Joint training"}
    styles = variant_styles(StudyMetrics(**metrics_of(variants, ["digits"])).summaries)
    assert len({(style["marker"], style["linestyle"]) for style in styles.values()}) == 31
    few = StudyMetrics(**metrics_of(METHODS, ["digits"]))
    assert len(looks(accuracy_figure(few).axes[0])) == 3
    bars = forgetting_figure(few).axes[0].patches
    assert len({bar.get_hatch() for bar in bars}) == len(bars) == 2


def test_accuracy_matrices_are_means_over_seeds():
    content = metrics_of(METHODS)
    panel = matrices_figure(StudyMetrics(**content)).axes[1]
    assert panel.get_title() == "NTK-CL\nDigits"
    runs = [run["metrics"]["accuracy_matrix"] for run in content["runs"] if names_of(run) == ("digits", "ntk_cl")]
    shown = panel.images[0].get_array()
    for t in range(TASKS):
        for k in range(TASKS):
            assert shown.mask[t, k] == (k > t)
            if k <= t:
                assert shown[t, k] == pytest.approx(np.mean([matrix[t][k] for matrix in runs]))
    assert panel.texts[0].get_text() == f"{shown[0, 0]:.0f}" and len(panel.texts) == 15


def test_forgetting_shows_mean_deviation_and_each_seed():
    content = metrics_of(METHODS)
    panel = forgetting_figure(StudyMetrics(**content)).axes[0]
    assert [label.get_text() for label in panel.get_yticklabels()] == ["Fine-tuning", "NTK-CL"]  # joint forgets nothing
    row = content["summaries"][1]["metrics"]["forgetting"]
    assert panel.patches[1].get_width() == pytest.approx(row["mean"])
    (low, _), (high, _) = panel.collections[1].get_segments()[0]
    assert (high - low) / 2 == pytest.approx(row["std"])
    seeds = [run["metrics"]["forgetting"] for run in content["runs"] if names_of(run) == ("digits", "ntk_cl")]
    assert any(list(line.get_xdata()) == seeds for line in panel.lines)


def test_published_numbers_are_plotted_against_reproduced_ones():
    content = metrics_of(METHODS, ["cifar100"], "vit_b16_in21k", paper_tables())
    average, final = published_figure(StudyMetrics(**content)).axes
    row = content["summaries"][1]["metrics"]
    for panel, published, metric in ((average, 93.76, "average_accuracy"), (final, 90.27, "final_accuracy")):
        points = [line.get_xydata()[0].tolist() for line in panel.lines if line.get_marker() == "o"]
        assert points == [[published, pytest.approx(row[metric]["mean"])]]
        assert panel.get_xlim() == panel.get_ylim()
