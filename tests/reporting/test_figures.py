"""Figures: of a study with several methods, of one with missing runs, and of a fake comparison of realistic size."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex
from safetensors.numpy import load_file, save_file

from ntkcl.errors import UserError
from ntkcl.reporting.figures.ablations import ablations_figure
from ntkcl.reporting.figures.accuracy import accuracy_figure
from ntkcl.reporting.figures.features import features_figure, tsne
from ntkcl.reporting.figures.figure import figures_from
from ntkcl.reporting.figures.forecast import forecast_figure
from ntkcl.reporting.figures.forgetting import forgetting_figure
from ntkcl.reporting.figures.gaps import gaps_figure
from ntkcl.reporting.figures.kernels import kernels_figure
from ntkcl.reporting.figures.matrices import matrices_figure
from ntkcl.reporting.figures.published import published_figure
from ntkcl.reporting.figures.render import write_analysis_figures, write_figures
from ntkcl.reporting.figures.sensitivity import sensitivity_figure, tick_label
from ntkcl.reporting.figures.spectra import spectra_figure
from ntkcl.reporting.figures.style import variant_styles
from ntkcl.reporting.study_comparison import StudyComparison
from ntkcl.reporting.study_metrics import StudyMetrics
from tests.helpers.fake_results import (
    CONDITIONS,
    IMAGES,
    MEASURES,
    METHODS,
    SIDES,
    TASKS,
    metrics_of,
    paper_tables,
    without_runs,
    write_analysis,
)
from tests.helpers.projects import REPOSITORY

FOLDER = Path("reports/figures")
PACKAGE = REPOSITORY / "ntkcl"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty project folder."""
    monkeypatch.chdir(tmp_path)
    Path("reports").mkdir()
    return tmp_path


@pytest.fixture
def content(here):
    """A comparison as JSON; the files that it names exist."""
    return write_analysis(here)


@pytest.fixture
def comparison(content):
    return StudyComparison(**content)


def files(figures):
    return {FOLDER / f"{name}{suffix}" for name in figures for suffix in (".pdf", ".png")}


def texts(figure):
    """All texts of a figure."""
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]


def looks(axes):
    return {(line.get_marker(), line.get_linestyle()) for line in axes.lines}


def write_metrics(content):
    Path("reports/metrics.json").write_text(json.dumps(content))


def test_every_figure_of_a_study_is_written_and_equal_content_gives_equal_bytes(here):
    write_metrics(metrics_of(METHODS, ["cifar100"], "vit_b16_in21k", paper_tables()))
    write_figures()
    first = {path: path.read_bytes() for path in FOLDER.iterdir()}
    assert first.keys() == files(figures_from("metrics", published=True))
    write_figures()
    assert {path: path.read_bytes() for path in FOLDER.iterdir()} == first


def test_a_study_without_a_papers_tables_has_no_published_figure(here):
    write_metrics(without_runs(metrics_of(METHODS)))
    write_figures()
    assert set(FOLDER.iterdir()) == files(["accuracy", "forgetting", "matrices"])


@pytest.mark.slow
def test_every_figure_of_a_comparison_is_written_without_torch_and_equal_content_gives_equal_bytes(content):
    """Written by two processes; with few variants, as plotting takes long."""
    few = content | {"sweeps": content["sweeps"][:1], "ablations": content["ablations"][:1]}
    Path("reports/analysis.json").write_text(json.dumps(few))
    code = (
        "import sys; from ntkcl.reporting.figures.render import write_analysis_figures;"
        "write_analysis_figures(); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    first = {path: path.read_bytes() for path in FOLDER.iterdir()}
    assert first.keys() == files(figures_from("analysis"))
    write_analysis_figures()
    assert {path: path.read_bytes() for path in FOLDER.iterdir()} == first


def test_figures_fit_a_page(comparison):
    datasets = [f"set_{index}" for index in range(9)]
    metrics = StudyMetrics(**metrics_of(METHODS, datasets, "vit_b16_in21k", paper_tables(), 10))
    plots = {name: figure.draw(metrics) for name, figure in figures_from("metrics", published=True).items()}
    plots |= {name: figure.draw(comparison) for name, figure in figures_from("analysis").items() if name != "features"}
    assert len(plots) == 10
    for name, figure in plots.items():
        width, height = figure.get_size_inches()
        assert width <= 6.3 and height <= 9.7, name


def test_without_a_comparison_the_command_that_writes_it_is_named(here):
    with pytest.raises(UserError, match="run `ntkcl report compare STUDY`"):
        write_analysis_figures()


def test_before_any_run_each_figure_is_a_placeholder(here):
    metrics = without_runs(metrics_of(METHODS, ["cifar100"], "vit_b16_in21k", paper_tables()))
    figures = figures_from("metrics", published=True)
    for figure in figures.values():
        assert len(texts(figure.draw(StudyMetrics(**metrics)))) == 1
    write_metrics(metrics)
    write_figures()
    assert set(FOLDER.iterdir()) == files(figures)


def without_measurements(content):
    """The same comparison before any measurement."""
    for row in (row for group in content["ablations"] for row in group["rows"]):
        row["cells"] = {name: {} for name in CONDITIONS}
    for point in (point for sweep in content["sweeps"] for point in sweep["points"]):
        point["cells"] = {}
    return content | {"examples": {}, "ranking": [], "forecast": []}


def test_before_any_measurement_each_figure_is_a_placeholder(content):
    nothing = without_measurements(content)
    Path("reports/analysis.json").write_text(json.dumps(nothing))
    write_analysis_figures()
    assert set(FOLDER.iterdir()) == files(figures_from("analysis"))
    for figure in figures_from("analysis").values():
        assert len(texts(figure.draw(StudyComparison(**nothing)))) == 1


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


def test_a_study_with_missing_runs_is_still_plotted():
    content = metrics_of(METHODS)
    missing = without_runs(content)["summaries"][1]
    content["runs"] = [run for run in content["runs"] if (missing["dataset"], missing["variant"]) != _names(run)]
    content["summaries"][1] = missing
    metrics = StudyMetrics(**content)
    for draw in (accuracy_figure, forgetting_figure):
        assert [axes.get_title() for axes in draw(metrics).axes] == ["Digits\nVit_Micro", "Glyphs\nVit_Micro"]
    assert len([axes for axes in matrices_figure(metrics).axes if axes.images]) == 5


def _names(run):
    return run["run"]["dataset"], run["run"]["variant"]


def test_no_two_variants_differ_in_color_alone():
    variants = {f"method_{index}": f"Method {index}" for index in range(30)} | {"joint": "Joint training"}
    styles = variant_styles(StudyMetrics(**metrics_of(variants, ["digits"])).summaries)
    assert len({(style["marker"], style["linestyle"]) for style in styles.values()}) == 31
    few = StudyMetrics(**metrics_of(METHODS, ["digits"]))
    assert len(looks(accuracy_figure(few).axes[0])) == 3
    bars = forgetting_figure(few).axes[0].patches
    assert len({bar.get_hatch() for bar in bars}) == len(bars) == 2


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


def test_accuracy_matrices_are_means_over_seeds():
    content = metrics_of(METHODS)
    panel = matrices_figure(StudyMetrics(**content)).axes[1]
    assert panel.get_title() == "NTK-CL\nDigits"
    runs = [run["metrics"]["accuracy_matrix"] for run in content["runs"] if _names(run) == ("digits", "ntk_cl")]
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
    seeds = [run["metrics"]["forgetting"] for run in content["runs"] if _names(run) == ("digits", "ntk_cl")]
    assert any(list(line.get_xdata()) == seeds for line in panel.lines)


def test_published_numbers_are_plotted_against_reproduced_ones():
    content = metrics_of(METHODS, ["cifar100"], "vit_b16_in21k", paper_tables())
    average, final = published_figure(StudyMetrics(**content)).axes
    row = content["summaries"][1]["metrics"]
    for panel, published, metric in ((average, 93.76, "average_accuracy"), (final, 90.27, "final_accuracy")):
        points = [line.get_xydata()[0].tolist() for line in panel.lines if line.get_marker() == "o"]
        assert points == [[published, pytest.approx(row[metric]["mean"])]]
        assert panel.get_xlim() == panel.get_ylim()


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


NEW_FIGURE = """
from ntkcl.reporting.figures.figure import Figure
from ntkcl.reporting.figures.style import placeholder_figure

FIGURE = Figure(
    title="Runs",
    section="Accuracy",
    source="metrics",
    caption="The number of runs.",
    draw=lambda study: placeholder_figure(str(len(study.runs))),
)
"""


def test_a_new_figure_is_one_file(here):
    """In a copy of the package with one more file, Snakemake's arguments and the plotted files include it."""
    shutil.copytree(PACKAGE, "ntkcl", ignore=shutil.ignore_patterns("__pycache__"))
    Path("ntkcl/reporting/figures/runs.py").write_text(NEW_FIGURE)
    write_metrics(metrics_of(METHODS))
    code = (
        "from types import SimpleNamespace as Study;"
        "from ntkcl.pipeline.browser_report import report_arguments;"
        "from ntkcl.reporting.figures.figure import figures_from;"
        "from ntkcl.reporting.figures.render import write_figures;"
        "arguments = report_arguments('fake', Study(reference=None, seeds=[0, 1]), figures_from('metrics'));"
        "assert (arguments['runs']['category'], arguments['runs']['labels']) == ('2. Accuracy', {'Title': 'Runs'});"
        "write_figures()"
    )
    environment = os.environ | {"PYTHONPATH": str(here)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    caption = "The number of runs.\n\nStudy ``fake``, seeds 0, 1; from ``reports/metrics.json``.\n"
    assert Path(".snakemake/captions/runs.rst").read_text() == caption
    assert set(FOLDER.iterdir()) == files(["accuracy", "forgetting", "matrices", "runs"])


def test_titles_and_captions_are_read_without_matplotlib():
    code = (
        "import sys; from ntkcl.reporting.figures.figure import figures_from;"
        "assert len(figures_from('metrics', published=True) | figures_from('analysis')) > 10;"
        "assert not {'matplotlib', 'pandas', 'safetensors', 'scipy', 'sklearn', 'torch'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
