"""Tables of a fake study, and the file that they are written from."""

import html
import json
import re
import subprocess
import sys
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from ntkcl.errors import UserError
from ntkcl.reporting.collect import aggregate
from ntkcl.reporting.figures.accuracy import accuracy_figure
from ntkcl.reporting.figures.figure import figures_from
from ntkcl.reporting.figures.render import write_figures
from ntkcl.reporting.study_metrics import Provenance, Summary, read_study_metrics
from ntkcl.reporting.tables.model import COLUMNS
from ntkcl.reporting.tables.terminal import show
from ntkcl.reporting.tables.write import write_tables
from ntkcl.runs import Run, run_folder
from ntkcl.storage.files import read_json
from tests.helpers.fake_study import BACKBONE, DATASET, REPORTS, write_run, write_yaml
from tests.helpers.projects import clear_settings

VARIANTS = ["slow", "fast", "fast/no_ema", "joint", "late"]


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Two datasets, two seeds; `late` never ran, and one seed of `slow` is missing on the second dataset."""
    monkeypatch.chdir(tmp_path)
    clear_settings()
    lists = {"datasets": ["toy_one", "two"], "backbones": ["vit"], "variants": VARIANTS, "seeds": [0, 1]}
    write_yaml(Path("params/studies/small.yaml"), {"title": "A small_study"} | lists)
    write_yaml(Path("params/datasets/toy_one.yaml"), DATASET | {"label": "Toy_1"})
    write_yaml(Path("params/datasets/two.yaml"), DATASET | {"label": "Two"})
    write_yaml(Path("params/backbones.yaml"), {"vit": BACKBONE})
    for name in ("slow", "fast", "joint", "late"):
        protocol = "joint" if name == "joint" else "incremental"
        write_yaml(Path(f"params/methods/{name}.yaml"), {"label": name.title(), "learner": "x", "protocol": protocol})
    for dataset, variant, average in [
        (d, v, a) for d in lists["datasets"] for v, a in zip(VARIANTS, (50, 60, 70, 90), strict=False)
    ]:
        for seed in (0, 1):
            if (dataset, variant, seed) != ("two", "slow", 1):
                write_run(dataset, variant, seed, average + 2.0 * seed)
    yield "small"
    clear_settings()


def test_metrics_are_collected_and_summarized(study):
    content = aggregate(study)
    assert content == read_study_metrics()
    assert len(content.runs) == 15
    late = [f"{dataset}/vit/late/seed{seed}" for dataset in ("toy_one", "two") for seed in (0, 1)]
    assert content.missing == [*late[:2], "two/vit/slow/seed1", *late[2:]]
    versions = {"numpy": ["1.5"], "torch": ["2.0"]}
    assert content.provenance == Provenance(devices=["CPU (one)"], commits=["abc+"], versions=versions, locks=["12ab"])
    rows = {(row.dataset, row.variant): row for row in content.summaries}
    assert [variant for dataset, variant in rows if dataset == "two"] == VARIANTS
    fast = rows["two", "fast/no_ema"]
    assert fast.label == "Fast (no ema)"
    assert fast.metrics["average_accuracy"] == Summary(mean=71.0, std=np.std([70, 72], ddof=1), n=2)
    assert fast.accuracy.mean == [72.0, 70.0] and fast.accuracy.std == [pytest.approx(2**0.5)] * 2
    assert rows["two", "slow"].seeds == [0] and rows["two", "slow"].accuracy.std is None
    assert set(rows["two", "late"].metrics.values()) == {None}


def test_the_collected_file_keeps_what_runs_recorded_and_means_by_name(study):
    path = run_folder("two", "vit", "fast", 0) / "metrics.json"
    run = json.loads(path.read_text())
    run["run"]["training"] = {"epochs": 3}
    path.write_text(json.dumps(run))
    aggregate(study)
    content = json.loads((REPORTS / "metrics.json").read_text())
    assert run in content["runs"]
    assert content["means"]["two/vit/fast"]["average_accuracy"] == 61.0  # for `dvc metrics`


def test_provenance_lists_each_device_and_version_once(study):
    versions = {"torch": "2.1", "numpy": "1.5", "timm": "1"}
    write_run("toy_one", "late", 0, 1.0, device="GPU", versions=versions, commit="def")
    provenance = aggregate(study).provenance
    assert provenance.devices == ["CPU (one)", "GPU"] and provenance.commits == ["abc+", "def"]
    assert provenance.versions == {"numpy": ["1.5"], "timm": ["1"], "torch": ["2.0", "2.1"]}


def test_paths_are_those_of_runs(study):
    run = Run("digits", "vit", "a/b", 3, *[None] * 6, digest="")
    assert run_folder("digits", "vit", "a/b", 3) == run.folder


def test_latex_is_well_formed(study):
    aggregate(study)
    write_tables()
    text = (REPORTS / "tables.tex").read_text()
    body = text.split("\n", 1)[1]
    opened, closed = re.findall(r"\\begin\{(.+?)\}", body), re.findall(r"\\end\{(.+?)\}", body)
    assert sorted(opened) == sorted(closed) == ["table*"] * 2 + ["tabular"] * 2
    assert body.count("{") - body.count(r"\{") == body.count("}") - body.count(r"\}")
    rows = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 2 * 6
    assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {len(COLUMNS)}
    assert set(re.findall(r"\\(\w*rule)\b", body)) == {"toprule", "midrule", "bottomrule"}
    outside_math = re.sub(r"\$[^$]*\$", "", body.replace(r"\$", ""))
    assert not re.search(r"(?<!\\)[_%#^]", outside_math)
    assert r"Toy\_1" in body and r"50 \% noise \& more" in body


def test_latex_cells(study):
    aggregate(study)
    write_tables()
    first, second = (REPORTS / "tables.tex").read_text().split(r"\begin{table*}")[1:]
    assert r"Slow & $51.00_{\pm 1.41}$" in first
    assert r"Fast (no ema) & $\mathbf{71.00}_{\pm 1.41}$" in first
    assert "Late & -- & -- & -- & -- & -- \\\\" in first
    assert r"\midrule" + "\n" + r"Joint & $91.00_{\pm 1.41}$ & $90.00_{\pm 1.41}$ & -- & -- & -- \\" in first
    assert "Slow & $50.00^{n=1}$" in second
    assert "mathbf" not in second  # nothing is best while seeds are missing
    forgetting = {line.split(" & ")[0]: line.split(" & ")[3] for line in first.splitlines() if line.count(" & ") == 5}
    assert forgetting["Slow"].startswith(r"$\mathbf") and not forgetting["Fast (no ema)"].startswith(r"$\mathbf")


def test_markdown(study):
    aggregate(study)
    write_tables()
    text = (REPORTS / "tables.md").read_text()
    assert r"# A small\_study" in text
    assert "| Fast (no ema) | **71.00 ± 1.41** |" in text
    assert "| Joint | 91.00 ± 1.41 | 90.00 ± 1.41 | – | – | – |" in text
    assert "| Slow | 50.00 (n = 1) |" in text
    assert "torch 2.0, numpy 1.5; commit abc+." in text
    assert {line.count(" | ") for line in text.splitlines() if line.startswith("|")} == {len(COLUMNS)}


LABELS = ["[ours] NTK-CL", "*star", "two\nlines  of it", "a | b & <c>", "$x$ and $5", "50 % #1_x"]


@pytest.mark.parametrize("label", LABELS)
def test_any_label_keeps_the_tables_whole(study, label):
    for name in ("slow", "fast"):
        write_yaml(Path(f"params/methods/{name}.yaml"), {"label": f"{label}{name}", "learner": "x"})
    clear_settings()
    aggregate(study)
    write_tables()
    write_figures()
    rows = (REPORTS / "tables.tex").read_text().splitlines()
    assert not [row for row in rows if row.startswith(("[", "*"))]
    grid = [line for line in (REPORTS / "tables.md").read_text().splitlines() if line.startswith("|")]
    assert len(grid) == 2 * (2 + len(VARIANTS))
    shown = re.findall(r'<th scope="row">(.*?)</th>', (REPORTS / "tables.html").read_text())
    assert html.unescape(shown[0]) == " ".join(f"{label}slow".split())


def test_reporting_needs_no_torch_and_equal_results_give_equal_bytes(study):
    """Written by two processes."""
    code = (
        "import sys, ntkcl.metrics.continual, ntkcl.pipeline.wandb_log; from ntkcl.pipeline import partial_report;"
        "from ntkcl.reporting import collect; from ntkcl.reporting.figures import render;"
        "from ntkcl.reporting.tables import terminal, write;"
        "partial_report.write_partial_report('small', {});"
        "collect.aggregate('small'); write.write_tables(); render.write_figures(); terminal.show();"
        "assert 'torch' not in sys.modules and 'wandb' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)

    def written():
        return {path: path.read_bytes() for path in REPORTS.rglob("*") if path.is_file() and "so_far" not in path.parts}

    first = written()
    figures = {f"{name}{suffix}" for name in figures_from("metrics") for suffix in (".pdf", ".png")}
    assert {path.name for path in first} == {"metrics.json", "tables.tex", "tables.md", "tables.html"} | figures
    aggregate(study)
    write_tables()
    write_figures()
    assert written() == first


def test_datasets_without_a_run_have_no_table_and_no_panel(study):
    for path in Path("runs/two").rglob("metrics.json"):
        path.unlink()
    content = aggregate(study)
    write_tables()
    assert re.findall(r"\\label\{(.*)\}", (REPORTS / "tables.tex").read_text()) == ["tab:toy-one-vit"]
    assert [panel.get_title() for panel in accuracy_figure(content).axes] == ["Toy_1\nViT_tiny"]


def test_the_split_is_printed_and_two_splits_are_refused(study):
    aggregate(study)
    write_tables()
    assert "noise & more. Split 0123456789ab." in (REPORTS / "tables.md").read_text()
    write_run("two", "late", 1, 60.0, split="fedcba9876543210")
    folders = r"0123456789ab in runs/two/vit/slow/seed0, .*, 4 more; fedcba987654 in runs/two/vit/late/seed1\)"
    with pytest.raises(UserError, match="runs of dataset 'two' used different splits .*" + folders):
        aggregate(study)


def test_different_images_in_the_same_split_are_refused(study):
    write_run("toy_one", "late", 1, 60.0)
    write_run("two", "late", 1, 60.0, images="fedcba9876543210")
    folders = r"\(ff in runs/two/vit/slow/seed0, .*; fedcba987654 in runs/two/vit/late/seed1\)"
    with pytest.raises(UserError, match="runs of dataset 'two' used different images, .*" + folders):
        aggregate(study)
    write_run("two", "late", 1, 60.0)
    assert aggregate(study).splits == {"toy_one": "0123456789abcdef", "two": "0123456789abcdef"}


def test_many_missing_runs_are_counted(study):
    for path in [*Path("runs/two").rglob("metrics.json"), *Path("runs/toy_one/vit/fast").rglob("metrics.json")]:
        path.unlink()
    aggregate(study)
    counts = "by dataset: toy_one 6, two 10; by method: fast 4, fast/no_ema 4, late 4, slow 2, joint 2"
    assert f"Not run yet (16): {counts}" in shown(200)


def shown(width):
    """Output of `ntkcl report show`, with single spaces."""
    out = StringIO()
    show(console=Console(file=out, width=width))
    return " ".join(out.getvalue().split())


def test_show(study):
    aggregate(study)
    text = shown(120)
    for part in (
        "Fast (no ema) 71.00±1.41",
        "Not run yet (5)",
        "reports/tables.tex",
        "runs/toy_one/vit/slow/seed0",
        "wandb sync",
    ):
        assert part in text


def test_missing_and_outdated_files_are_refused(study):
    with pytest.raises(UserError, match=r"reports/metrics\.json is missing"):
        write_tables()
    for path in Path("runs/toy_one").rglob("metrics.json"):
        content = json.loads(path.read_text())
        content["metrics"]["accuracy"] = [1.0]
        path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="has 1 tasks, the dataset now 2"):
        aggregate(study)
    for path in Path("runs").rglob("metrics.json"):
        path.unlink()
    with pytest.raises(UserError, match="no run of study 'small' has metrics"):
        aggregate(study)


def test_files_of_another_version_are_refused(study):
    path = run_folder("two", "vit", "fast", 0) / "metrics.json"
    run = json.loads(path.read_text())
    path.write_text(json.dumps(run | {"data": {"split": "aa"}}))
    remedy = r"delete it and run `snakemake --cores all runs/two/vit/fast/seed0/metrics\.json`"
    with pytest.raises(UserError, match=r"does not fit .*\(data\.content: Field required\); " + remedy):
        aggregate(study)
    path.write_text(json.dumps(run))
    aggregate(study)
    report = REPORTS / "metrics.json"
    content = read_json(report)
    report.write_text(json.dumps({"summary": content.pop("summaries")} | content))
    with pytest.raises(UserError, match=r"^reports/metrics\.json does not fit .*run `ntkcl report aggregate STUDY`.*"):
        show()
