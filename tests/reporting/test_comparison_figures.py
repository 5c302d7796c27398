"""Figures of a fake comparison of realistic size: what they show of its files."""

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex
from safetensors.numpy import load_file, save_file

from ntkcl.reporting.figures.ablations import ablations_figure
from ntkcl.reporting.figures.features import features_figure, tsne
from ntkcl.reporting.figures.figure import figures_from
from ntkcl.reporting.figures.forecast import forecast_figure
from ntkcl.reporting.figures.gaps import gaps_figure
from ntkcl.reporting.figures.kernels import kernels_figure
from ntkcl.reporting.figures.sensitivity import sensitivity_figure, tick_label
from ntkcl.reporting.figures.spectra import spectra_figure
from ntkcl.reporting.study_comparison import StudyComparison
from tests.helpers.fake_results import (
    CONDITIONS,
    IMAGES,
    MEASURES,
    SIDES,
    TASKS,
)
from tests.helpers.figures import texts


def test_an_incomplete_comparison_is_still_plotted(content):
    """Single seeds have no interval; a condition, a measure, a term, arrays and a whole file are missing."""
    for row in (row for group in content["ablations"] for row in group["rows"]):
        row["cells"]["glyphs/vit_micro"] = {"average_accuracy": None, "final_accuracy": None, "forgetting": None}
        row["cells"]["digits/vit_micro"]["average_accuracy"] |= {"low": None, "high": None, "n": 1}
    for point in content["sweeps"][0]["points"]:
        point["cells"]["digits/vit_micro"] |= {"coupling": None, "forgetting": {"mean": 3.0, "std": None, "n": 1}}
    content["ranking"] = content["ranking"][:-1]
    content["ranking"][0] |= {"rho": None, "low": None, "high": None}
    content["forecast"][0]["correlation"] = None
    paths = [Path(path) for variants in content["examples"].values() for path in variants.values()]
    paths[0].unlink()
    paths[1].with_suffix(".json").unlink()
    kept = {name: array for name, array in load_file(paths[2]).items() if name.startswith("features/")}
    save_file(kept, paths[2])
    save_file(load_file(paths[3]) | {"kernel/before": np.zeros((IMAGES, IMAGES), np.float32)}, paths[3])
    comparison = StudyComparison(**content)
    plots = {name: figure.draw(comparison) for name, figure in figures_from("analysis").items()}
    assert "not measured" in texts(plots["kernels"])


def test_datasets_tasks_and_methods_differ_in_more_than_color(comparison):
    lines = [line for line in sensitivity_figure(comparison).axes[0].lines if len(line.get_xdata()) == 4]
    assert len({(line.get_marker(), line.get_linestyle()) for line in lines if line.get_marker() in "os"}) == 2
    assert len({line.get_marker() for line in features_figure(comparison).axes[0].lines}) == TASKS
    found = {
        (line.get_marker(), line.get_linestyle(), to_hex(line.get_markerfacecolor()))
        for line in spectra_figure(comparison).axes[0].lines
    }
    assert len({look[0] for look in found}) == 2 and len({look[:2] for look in found}) == 4
    rows = [axes.lines[0].get_marker() for axes in gaps_figure(comparison).axes[:2]]
    assert len(set(rows)) == 2


def test_ablations_show_the_difference_and_its_interval(comparison):
    figure = ablations_figure(comparison)
    rows = [row for group in comparison.ablations for row in group.rows]
    for panel, condition in zip(figure.axes, CONDITIONS, strict=True):
        cells = [row.cells[condition]["average_accuracy"] for row in rows]
        markers = [line for line in panel.lines if line.get_marker() == "o"]
        spans = [list(line.get_xdata()) for line in panel.lines if len(line.get_xdata()) == 2][1:]  # after zero
        assert [line.get_xdata()[0] for line in markers] == [cell.mean for cell in cells]
        assert spans == [[cell.low, cell.high] for cell in cells]
        filled = [to_hex(line.get_markerfacecolor()) != "#ffffff" for line in markers]
        assert filled == [cell.low > 0 or cell.high < 0 for cell in cells]
    labels = [label.get_text().replace("\n", " ") for label in figure.axes[0].get_yticklabels()]
    assert labels == [group.title for group in comparison.ablations] + [row.label for row in rows]


def test_sensitivity_shows_each_measure_at_equal_distances(comparison):
    figure = sensitivity_figure(comparison)
    sweep = comparison.sweeps[2]  # weights from 0
    panels = [axes for axes in figure.axes if axes.get_subplotspec().colspan.start == 2]
    shown = ["average_accuracy", "forgetting", *MEASURES[3:6], "alignment", "coupling"]
    for panel, metric in zip(panels, shown, strict=True):
        means = [point.cells["digits/vit_micro"][metric].mean for point in sweep.points]
        means = [1 - mean for mean in means] if metric == "alignment" else means  # drift
        assert any(np.allclose(line.get_xydata(), list(enumerate(means))) for line in panel.lines if line.get_label())
    assert [label.get_text() for label in panels[-1].get_xticklabels()] == ["0", "10⁻⁴", "10⁻³", "10⁻²", "10⁻¹"]
    assert tick_label(50.0) == "50" and tick_label(1.0) == "1" and tick_label(0.3) == "0.3"


def test_gaps_are_plotted_against_the_terms(comparison):
    panel, entry = gaps_figure(comparison).axes[0], comparison.ranking[0]
    assert [tuple(point) for point in panel.lines[0].get_xydata().tolist()] == entry.points
    assert panel.get_title() == "Digits: ρ = 0.71 [0.52, 0.84], n = 130"


def test_kernels_have_a_diagonal_of_mean_one(comparison):
    panels = kernels_figure(comparison).axes
    path = Path(comparison.examples["digits/vit_micro"]["ntk_cl"])
    kernel = load_file(path)["kernel/after"]
    shown = panels[1].images[0].get_array()
    assert np.diagonal(shown).mean() == pytest.approx(1)
    assert np.allclose(shown * np.diagonal(kernel).mean(), kernel, rtol=1e-4)
    coupling = json.loads(path.with_suffix(".json").read_text())["coupling"]
    assert panels[2].images[0].get_array().tolist() == coupling
    assert [label.get_text() for label in panels[0].get_xticklabels()] == ["1", "2", "3", "4", "5"]


def test_spectra_are_those_of_the_file(comparison):
    arrays = load_file(comparison.examples["digits/vit_micro"]["ntk_cl"])
    learned, end = spectra_figure(comparison).axes[1].lines[:2]
    largest = arrays["spectrum/learned/1"][0]
    assert np.allclose(learned.get_ydata() * largest, arrays["spectrum/learned/1"])
    assert np.allclose(end.get_ydata() * largest, arrays["spectrum/end/1"][: len(end.get_ydata())])
    assert len(end.get_ydata()) >= len(arrays["spectrum/end/1"]) / 2  # without noise


def test_forecasts_are_those_of_the_files(comparison):
    path = Path(comparison.examples["digits/vit_micro"]["ntk_cl"])
    axes, arrays = forecast_figure(comparison).axes, load_file(path)
    pairs = {
        pair
        for t in range(1, TASKS)
        for pair in zip(*(arrays[f"forecast/{t}/{side}"].tolist() for side in SIDES), strict=True)
    }
    assert {tuple(point) for point in axes[0].lines[0].get_xydata().tolist()} <= pairs
    assert axes[0].get_title() == "Digits\nNTK-CL\nr = 0.83 ± 0.05"
    losses = json.loads(path.with_suffix(".json").read_text())["forecast"]
    for line, name in zip(axes[4].lines, ("drop_measured", "drop_forecast"), strict=False):
        assert line.get_xydata().tolist() == [[2 + t, row[name]] for t, row in enumerate(losses)]


def test_t_sne_is_always_the_same():
    features = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32)
    first = tsne(features)
    assert first.shape == (60, 2) and np.array_equal(first, tsne(features))
    assert len(tsne(features[:4])) == 4
