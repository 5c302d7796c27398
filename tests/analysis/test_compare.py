"""Ablations, sweeps and kernels of a fake study: the comparison computed from the files of its runs, and its tables."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from ntkcl.analysis.compare import compare
from ntkcl.errors import UserError
from ntkcl.reporting.study_comparison import read_study_comparison
from ntkcl.reporting.study_metrics import Summary
from ntkcl.reporting.tables.comparisons import comparison_tables
from ntkcl.reporting.tables.write import write_comparison_tables
from ntkcl.runs import run_folder
from tests.helpers.fake_results import metrics_of_run, run_of
from tests.helpers.projects import clear_settings

REPORTS = Path("reports")
STUDY = {
    "title": "A small study",
    "datasets": ["digits", "glyphs"],
    "backbones": ["vit_micro"],
    "variants": ["ntk_cl", "simplecil"],
    "seeds": [0, 1, 2],
    "reference": "ntk_cl",
    "ablations": [{"title": "Fusion", "variants": ["ntk_cl/fusion_sum", "ntk_cl/fusion_mlp"]}],
    "sweeps": {
        "sample_size": {
            "title": "Sample size",
            "axis": "Images (%)",
            "points": {"ntk_cl/train_fraction_0.1": 10, "ntk_cl": 100},
        }
    },
    "kernels": ["ntk_cl", "simplecil"],
}
VARIANTS = {
    "fusion_sum": {"label": "a & b_c", "settings": {"fusion": "sum"}},
    "fusion_mlp": {"label": "never run", "settings": {"fusion": "mlp"}},
}
MADE_WITH = [{"device": "CPU (one)", "versions": {"torch": "2.0"}, "commit": "abc"}]


def write_run(dataset, variant, seed, accuracy, gap=None, drift=None):
    """Write the metrics of a run, and its kernel if `gap` is given; without `drift` it has trained nothing."""
    folder = run_folder(dataset, "vit_micro", variant, seed)
    folder.mkdir(parents=True, exist_ok=True)
    names = {"dataset": dataset, "backbone": "vit_micro", "variant": variant, "seed": seed}
    metrics = {"average_accuracy": accuracy, "final_accuracy": accuracy - 10, "forgetting": accuracy / 10}
    metrics = metrics_of_run(np.random.default_rng(0), 3) | metrics
    (folder / "metrics.json").write_text(json.dumps(run_of(names, metrics, MADE_WITH)))
    if gap is None:
        return
    gaps = {"train": [90.0] * 3, "task_specific_gap": [gap, gap + 1, gap + 2], "task_interplay_gap": [gap, 2 * gap, 0]}
    gaps |= {"images": [10] * 3, "same_classes_gap": [0, 1, 0]}
    kernel = {"digest": "d", "provenance": MADE_WITH, "gaps": gaps, "how": {"ridge": 0.01}}
    kernel |= {"overlap": [[1, 0.2, 0.4], [0.2, 1, 0.6], [0.4, 0.6, 1]]}
    if drift is not None:
        kernel |= {"drift": [drift, 2 * drift, 0], "alignment": [0.9, None, 1], "complexity_end": [1, 2, 3]}
        kernel |= {
            "rademacher": [-gap, -gap - 1, -gap - 2],
            "complexity": [gap, gap + 1, gap + 2],
            "effective_dimension": [5, 5, 5],
            "trace": [1, 1, 1],
        }
        kernel |= {"coupling": [*kernel["overlap"][:2], [None, None, None]]}
        task = {"correlation": 0.5, "correlation_in_all": None, "slope": 2.0}
        drops = [{"drop_forecast": seed + step, "drop_measured": 2 * (seed + step)} for step in (0, 0.5)]
        kernel |= {"forecast": [task | drop for drop in drops]}
    (folder / "kernel.json").write_text(json.dumps(kernel))


@pytest.fixture
def study(project):
    Path("params/studies/small.yaml").write_text(yaml.safe_dump(STUDY, sort_keys=False))
    Path("params/methods/ntk_cl/ablations.yaml").write_text(yaml.safe_dump(VARIANTS))
    clear_settings()
    for seed in range(3):
        write_run("digits", "ntk_cl", seed, 90 + seed, gap=seed, drift=0.1 * seed + 0.1)
        write_run("digits", "ntk_cl/fusion_sum", seed, 89 + seed * 1.5)
        write_run("digits", "ntk_cl/train_fraction_0.1", seed, 70, gap=5 + seed, drift=0.5)
        write_run("digits", "simplecil", seed, 80, gap=1)
    return "small"


def cells(content, sweep=0, point=0):
    return content.sweeps[sweep].points[point].cells["digits/vit_micro"]


def by_names(rankings):
    return {(row.condition, row.gap, row.term): row for row in rankings}


def test_ablations_are_paired_over_seeds(study):
    content = compare(study)
    assert content == read_study_comparison()
    row, never_run = content.ablations[0].rows
    found = row.cells["digits/vit_micro"]["average_accuracy"]
    assert (found.n, found.mean) == (3, pytest.approx(-0.5)) and found.low < -0.5 < found.high
    assert found.high == pytest.approx(-0.5 + 4.302652 * 0.5 / 3**0.5, rel=1e-5)
    assert set(never_run.cells["digits/vit_micro"].values()) == {None}
    assert set(row.cells["glyphs/vit_micro"].values()) == {None}


def test_a_seed_without_its_reference_is_no_pair(study):
    (run_folder("digits", "vit_micro", "ntk_cl", 1) / "metrics.json").unlink()
    found = compare(study).ablations[0].rows[0].cells["digits/vit_micro"]["average_accuracy"]
    assert found.n == 2 and found.mean == pytest.approx((-1 + 0) / 2)


def test_measures_of_a_sweep_are_means_over_the_tasks_where_they_are_defined(study):
    few_images, all_images = (cells(compare(study), point=point) for point in (0, 1))
    assert few_images["average_accuracy"] == Summary(mean=70, std=0, n=3)
    assert all_images["task_specific_gap"].mean == pytest.approx(2)  # gap + 1, gaps 0 to 2
    assert all_images["task_interplay_gap"].mean == pytest.approx(1.5)  # without the last task
    assert all_images["drift"].mean == pytest.approx(1.5 * 0.2)
    assert all_images["alignment"].mean == pytest.approx(0.9)  # None is ignored
    assert all_images["overlap"].mean == pytest.approx(0.4)  # without the diagonal
    assert all_images["coupling"].mean == pytest.approx((0.3 + 0.4) / 2)


def test_rank_correlations_are_per_seed_over_runs_of_the_references_method(study):
    found = by_names(compare(study).ranking)
    specific = found["digits/vit_micro", "task_specific_gap", "complexity"]
    assert specific.rho == pytest.approx(1) and specific.n == 3 and len(specific.points) == 18
    assert specific.within.rho == pytest.approx(1)
    opposite = found["digits/vit_micro", "task_specific_gap", "rademacher"]
    assert (opposite.rho, opposite.low, opposite.high) == pytest.approx((-1, -1, -1))
    constant = found["digits/vit_micro", "task_specific_gap", "effective_dimension"]
    assert constant.rho is None and constant.n == 0
    drift = found["digits/vit_micro", "task_interplay_gap", "drift"]
    assert len(drift.points) == 12 and -1 < drift.rho < 1 and drift.low < drift.rho < drift.high
    assert found["glyphs/vit_micro", "task_specific_gap", "complexity"].points == []


def test_measures_between_tasks_are_averaged_over_later_tasks(study):
    points = by_names(compare(study).ranking)["digits/vit_micro", "same_classes_gap", "overlap_later"].points
    assert points[:2] == [(pytest.approx(0.3), 0), (pytest.approx(0.6), 1)]


def test_forecasts_and_methods_without_any(study):
    found = {(row.condition, row.variant): row for row in compare(study).forecast}
    own, simple = found["digits/vit_micro", "ntk_cl"], found["digits/vit_micro", "simplecil"]
    assert own.correlation == Summary(mean=0.5, std=0, n=3) and own.correlation_in_all is None
    assert own.drops.rho == pytest.approx(1) and simple.drops.rho is None
    assert own.drops.points[:2] == [(0, 0), (0.5, 1)] and own.slope.mean == 2
    assert simple.correlation is None


def test_tables_are_complete_and_explain_themselves(study):
    content = compare(study)
    write_comparison_tables()
    text = (REPORTS / "analysis.md").read_text()
    assert "| a & b\\_c | −0.50 [−1.74, 0.74] |" in text
    assert "| never run | – | – | – | – | – | – |" in text
    assert "seeds 0, 1, 2" in text and "CPU (one)" in text and "commit abc" in text
    latex = (REPORTS / "analysis.tex").read_text()
    assert latex.count(r"\begin{table*}") == latex.count(r"\end{table*}") == 6
    assert r"a \& b\_c" in latex and "nan" not in latex
    assert (REPORTS / "analysis.html").read_text().count("<caption") == 5
    assert "SimpleCIL" not in text[text.index("Forecasts of forgetting") :]  # it forecasts nothing
    for table in comparison_tables(content):
        for row in (row for rows in table.sections for row in rows):
            assert len(row.cells) in (0, len(table.columns)), (table.name, row.label)


def test_equal_runs_give_equal_bytes(study):
    names = ("analysis.json", "analysis.tex", "analysis.md", "analysis.html")

    def written():
        compare(study)
        write_comparison_tables()
        return [(REPORTS / name).read_bytes() for name in names]

    assert written() == written()


def test_studies_and_runs_that_cannot_be_compared_are_refused(study):
    with pytest.raises(UserError, match="'quickstart' has no reference"):
        compare("quickstart")
    now = {path.parent: "other" for path in Path("runs").rglob("metrics.json")}
    with pytest.raises(UserError, match=r"was computed with other settings; run .*metrics\.json"):
        compare(study, now)
    for path in Path("runs").rglob("*.json"):
        path.unlink()
    with pytest.raises(UserError, match="no run of ntk_cl, the reference of study 'small', has metrics"):
        compare(study)


def test_kernels_and_comparisons_of_another_version_are_refused(study):
    path = run_folder("digits", "vit_micro", "ntk_cl", 0) / "kernel.json"
    path.write_text(path.read_text().replace('"same_classes_gap"', '"another_gap"'))
    remedy = r"delete it and run `snakemake --cores all runs/digits/.*kernel\.json`"
    with pytest.raises(UserError, match=r"kernel\.json does not fit .*\(gaps\.same_classes_gap: .*" + remedy):
        compare(study)
    (REPORTS / "analysis.json").parent.mkdir()
    (REPORTS / "analysis.json").write_text('{"study": "small", "settings": []}')
    with pytest.raises(UserError, match=r"analysis\.json does not fit .*run `ntkcl report compare STUDY`"):
        write_comparison_tables()
