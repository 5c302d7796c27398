"""All figures: that each is written, fits a page, and can be drawn before there are results."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ntkcl.errors import UserError
from ntkcl.reporting.figures.figure import figures_from
from ntkcl.reporting.figures.render import write_analysis_figures, write_figures
from ntkcl.reporting.study_comparison import StudyComparison
from ntkcl.reporting.study_metrics import StudyMetrics
from tests.helpers.fake_results import (
    CONDITIONS,
    METHODS,
    metrics_of,
    paper_tables,
    without_runs,
)
from tests.helpers.figures import texts
from tests.helpers.projects import REPOSITORY

FOLDER = Path("reports/figures")
PACKAGE = REPOSITORY / "ntkcl"


def files(figures):
    return {FOLDER / f"{name}{suffix}" for name in figures for suffix in (".pdf", ".png")}


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
    assert set(FOLDER.iterdir()) == files(["accuracy", "forgetting", "matrices", "ranks"])


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
    assert len(plots) == 11
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
    assert set(FOLDER.iterdir()) == files(["accuracy", "forgetting", "matrices", "ranks", "runs"])


def test_titles_and_captions_are_read_without_matplotlib():
    code = (
        "import sys; from ntkcl.reporting.figures.figure import figures_from;"
        "assert len(figures_from('metrics', published=True) | figures_from('analysis')) > 10;"
        "assert not {'matplotlib', 'pandas', 'safetensors', 'scipy', 'sklearn', 'torch'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
