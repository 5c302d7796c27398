"""Published numbers next to reproduced ones: a fake study of two of the paper's tables."""

import csv
import json
import re
import shutil
from io import StringIO
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from ntkcl.commands.cli import main
from ntkcl.errors import UserError
from ntkcl.pipeline.partial_report import SO_FAR
from ntkcl.reporting.collect import aggregate
from ntkcl.reporting.figures.accuracy import accuracy_figure
from ntkcl.reporting.figures.render import write_figures
from ntkcl.reporting.study_metrics import read_study_metrics
from ntkcl.reporting.tables.latex import escape_latex
from ntkcl.reporting.tables.markdown import escape_markdown
from ntkcl.reporting.tables.terminal import show
from ntkcl.reporting.tables.write import write_tables
from ntkcl.runs import run_folder, runs_of
from ntkcl.settings.files import load_method, load_study
from tests.helpers.fake_study import BACKBONE, DATASET, REPORTS, write_run, write_yaml
from tests.helpers.projects import REPOSITORY, clear_settings

CSV = "published/ntk_cl_paper.csv"
NUMBERS = list(csv.DictReader((REPOSITORY / "params" / CSV).open()))
TABLES = {number: list(dict.fromkeys(row["dataset"] for row in NUMBERS if row["table"] == number)) for number in "2345"}
METHODS = {"ntk_cl": "NTK-CL", "ease": "EASE", "l2p": "L2P", "slow": "Slow", "joint": "Joint"}


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Tables 2 and 4; nothing has run."""
    monkeypatch.chdir(tmp_path)
    clear_settings()
    tables = {
        number: {"title": f"Title {number}", "backbone": "vit_b16_in21k", "datasets": TABLES[number]} for number in "24"
    }
    lists = {"datasets": TABLES["2"] + TABLES["4"], "backbones": ["vit_b16_in21k"], "variants": list(METHODS)}
    content = {"title": "Paper", "published": CSV, "tables": tables, "seeds": [0, 1]} | lists
    write_yaml(Path("params/studies/paper.yaml"), content)
    write_yaml(
        Path("params/backbones.yaml"),
        {"vit_b16_in21k": BACKBONE | {"label": "ViT-B/16", "pretraining": {"dataset": "cifar100"}}},
    )
    for name in lists["datasets"]:
        write_yaml(
            Path(f"params/datasets/{name}.yaml"),
            DATASET | {"source": "digits", "label": name.title().replace("_", "-")},
        )
    for name, label in METHODS.items():
        protocol = "joint" if name == "joint" else "incremental"
        method = {"label": label, "learner": "simplecil", "protocol": protocol}
        write_yaml(Path(f"params/methods/{name}.yaml"), method)
    (tmp_path / "params/published").mkdir()
    shutil.copy(REPOSITORY / "params" / CSV, tmp_path / "params" / CSV)
    yield "paper"
    clear_settings()


def run_some():
    """Runs of both tables: EASE on CIFAR-100 and NTK-CL with both seeds, the joint run with one."""
    for seed in (0, 1):
        write_run("cifar100", "ease", seed, 11.0 + seed, "vit_b16_in21k")
        write_run("cifar100", "ntk_cl", seed, 22.0 + seed, "vit_b16_in21k")
        write_run("kvasir", "ntk_cl", seed, 33.0 + seed, "vit_b16_in21k")
    write_run("cifar100", "joint", 0, 44.0, "vit_b16_in21k")


def written(study):
    """The LaTeX, the Markdown and the output on the terminal, after aggregation."""
    aggregate(study)
    write_tables()
    out = StringIO()
    show(console=Console(file=out, width=160))
    return (REPORTS / "tables.tex").read_text(), (REPORTS / "tables.md").read_text(), out.getvalue()


def markdown_rows(text):
    """Cells by (table, method, published) of the paper's tables, with the parts of a split table joined."""
    rows = {}
    for table, part in enumerate(text.split("\n**")[1:3]):
        method = ""
        for line in re.findall(r"^\| (.*) \|$", part, re.M):
            label, *cells = line.split(" | ")
            if label in ("Method", "---", "Published only:"):
                continue
            published = label.startswith("*")
            if not label.startswith("*published"):
                method = label.strip("*").split(", ")[0]
            rows.setdefault((table, method, published), []).extend(cells)
    return rows


@pytest.mark.parametrize("finished", [False, True])
def test_every_published_number_is_in_its_cell(study, finished):
    if finished:
        run_some()
    rows = markdown_rows(written(study)[1])
    for table, number in enumerate("24"):
        lines = [row for row in NUMBERS if row["table"] == number]
        for method in {row["method"] for row in lines}:
            own = [row for row in lines if row["method"] == method]
            cells = {(row["dataset"], row["metric"]): f"*{row['mean']} ± {row['std']}*" for row in own}
            metrics = ("average_accuracy", "final_accuracy")
            assert rows[table, method, True] == [cells[name, metric] for name in TABLES[number] for metric in metrics]
    order = [method for table, method, published in rows if published and table == 0]
    published = list(dict.fromkeys(row["method"] for row in NUMBERS if row["table"] == "2"))
    assert order == sorted(published, key=lambda method: method not in METHODS.values())  # the study's methods first


def test_methods_that_the_study_lacks_have_no_line_for_reproduced_numbers(study):
    latex, markdown, text = written(study)
    rows = markdown_rows(markdown)
    assert {method for table, method, published in rows if table == 0 and not published} == {"L2P", "EASE", "NTK-CL"}
    for start in ("| Published only: |\n| *DualPrompt, ECCV 2022* |", "| *published* |"):
        assert start in markdown
    assert "Published only: \\\\\n\\quad\\textit{DualPrompt, ECCV 2022} & " in latex
    assert re.search(r"Published only: +\n +DualPrompt, ECCV 2022 +90.68±0.21", text)


def test_a_method_of_another_name_stands_beside_its_published_numbers_with_its_note(study):
    path = Path("params/methods/ease.yaml")
    text = path.read_text().replace("label: EASE", "label: EASE (our reading)")
    path.write_text(text + "published_as: EASE\nnote: EASE is our reading\n")
    clear_settings()
    run_some()
    latex, markdown, text = written(study)
    assert markdown.index("EASE (our reading)") < markdown.index("Published only:")
    assert all("EASE is our reading." in " ".join(each.split()) for each in (latex, markdown, text))


def test_the_paper_study_has_every_method_of_the_papers_tables(project):
    methods = [load_method(name) for name in load_study("paper").variants]
    names = [method.published_as or method.label for method in methods]
    assert set(names) - {row["method"] for row in NUMBERS} == {"SimpleCIL", "RanPAC"}
    assert {row["method"] for row in NUMBERS} <= set(names)


def test_reproduced_numbers_are_in_rows_of_their_own(study):
    run_some()
    rows = markdown_rows(written(study)[1])
    dashes = ["–"] * 4
    assert rows[0, "NTK-CL", False] == ["**22.50 ± 0.71**", "**21.50 ± 0.71**", *dashes]
    assert rows[0, "EASE", False] == ["11.50 ± 0.71", "10.50 ± 0.71", *dashes]
    assert rows[0, "L2P", False] == ["–", "–", *dashes] and (0, "DualPrompt", False) not in rows
    assert (0, "Slow", False) not in rows  # neither published nor run
    assert rows[0, "Joint", False] == ["44.00 (n = 1)", "43.00 (n = 1)", *dashes]
    assert rows[1, "NTK-CL", False] == ["–"] * 10 + ["33.50 ± 0.71", "32.50 ± 0.71"]
    published = [cell for (_, _, is_published), cells in rows.items() if is_published for cell in cells]
    reproduced = [cell for (_, _, is_published), cells in rows.items() if not is_published for cell in cells]
    assert all(re.fullmatch(r"\*[\d.]+ ± [\d.]+\*", cell) for cell in published)
    assert set(reproduced).isdisjoint(published) and not any(re.match(r"\*\d", cell) for cell in reproduced)


def test_latex_marks_published_numbers(study):
    run_some()
    latex = written(study)[0].split(r"\begin{table*}")
    assert re.findall(r"\\label\{(.*)\}", "".join(latex)) == [
        "tab:paper-2",
        "tab:paper-4-part-1",  # six datasets
        "tab:paper-4-part-2",
        "tab:cifar100-vit-b16-in21k",
        "tab:kvasir-vit-b16-in21k",
    ]
    rows = [line for line in latex[1].splitlines() if line.endswith(r"\\") and "&" in line]
    published = [row for row in rows if row.startswith(r"\quad\textit{")]
    assert len(published) == 12
    assert all(row.count(r"\textit{") == 7 and "mathbf" not in row for row in published)
    assert r"\quad\textit{published, CVPR 2024} & \textit{92.58}$_{\pm \mathit{0.48}}$ & " in latex[1]
    assert not any("textit" in row for row in rows if row not in published)
    assert r"NTK-CL & $\mathbf{22.50}_{\pm 0.71}$ & $\mathbf{21.50}_{\pm 0.71}$ & -- & -- & -- & -- \\" in rows
    assert r"Joint & $44.00^{n=1}$" in latex[1]
    assert {row.count(" & ") for row in rows if r"\multicolumn" not in row} == {6}


def test_wide_tables_are_split_on_the_terminal(study):
    run_some()
    text = written(study)[2]
    assert max(map(len, text.splitlines())) <= 160
    assert re.search(r"NTK-CL +22.50±0.71 +21.50±0.71 +– +– +– +– *\n +published +93.76±0.35 +90.27±0.20 ", text)
    assert re.search(r"OVOR, ICLR 2024 +81.08±2.73 +65.96±3.93 +85.14±3.14 +77.55±3.36 +77.27±2.28 +58.3±2.69", text)


def test_the_caption_gives_the_source_of_both_numbers(study):
    run_some()
    markdown = written(study)[1]
    assert "the published numbers of Table 2 of arXiv 2407.17120" in markdown
    spread = "mean ± sample standard deviation over seeds 0, 1"
    assert f"reproduced, upright: study paper, {spread}, on CPU (one), commit abc+." in markdown


def test_notes_on_each_dataset_are_below_the_papers_tables(study):
    for name in TABLES["2"] + TABLES["4"]:
        path = Path(f"params/datasets/{name}.yaml")
        path.write_text(path.read_text().replace(DATASET["note"], f"our split of {name}; the paper's is not published"))
    clear_settings()
    run_some()
    latex, markdown, text = written(study)
    floats = latex.split(r"\begin{table*}")[1:]
    splits = dict.fromkeys(("cifar100", "kvasir"), "; split 0123456789ab")  # of the datasets that have runs
    for table, number in enumerate("24"):
        for name in TABLES[number]:
            label = name.title().replace("_", "-")
            note = f"{label}: our split of {name}; the paper's is not published{splits.get(name, '')}."
            assert f"\n- {escape_markdown(note)}\n" in markdown.split("\n**")[1 + table]
            assert markdown.count(escape_markdown(note)) == latex.count(escape_latex(note)) == 1
            assert rf"\multicolumn{{2}}{{c}}{{{label}}}" in next(part for part in floats if escape_latex(note) in part)
            assert text.splitlines().count(note) == 1


def test_a_report_with_nothing_finished(study):
    latex, markdown, text = written(study)
    write_figures()
    sentences = [text.get_text() for text in accuracy_figure(read_study_metrics()).texts]
    assert sentences == ["No run has finished yet."] and (REPORTS / "figures/accuracy.pdf").exists()
    assert latex.count(r"\begin{table*}") == 3 and "no run has finished yet" in markdown
    rows = markdown_rows(markdown)
    assert {cell for (_, _, published), cells in rows.items() if not published for cell in cells} == {"–"}
    assert "Not run yet: all 90 runs; `ntkcl plan paper` prints" in text
    assert not any("Forgetting" in part or "\n\n\n" in part for part in (latex, markdown, text))
    first = {path: path.read_bytes() for path in REPORTS.rglob("*") if path.is_file()}
    written(study)
    write_figures()
    assert {path: path.read_bytes() for path in first} == first


def test_the_command_reports_what_has_finished(study):
    digests = {run.folder: run.digest for run in runs_of(load_study(study))}
    for seed, digest in enumerate([None, "of other settings"]):
        write_run("cifar100", "ease", seed, 11.0, "vit_b16_in21k")
        path = run_folder("cifar100", "vit_b16_in21k", "ease", seed) / "metrics.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"digest": digest or digests[path.parent]}))
    done = CliRunner().invoke(main, ["report", "partial", study])
    assert done.exit_code == 0, done.output
    assert "11.00 (n=1)" in done.output and "Not run yet (89)" in done.output
    assert "11.00^{n=1}" in (SO_FAR / "tables.tex").read_text() and (SO_FAR / "figures/accuracy.png").exists()
    assert not REPORTS.joinpath("tables.tex").exists()  # Snakemake's, of finished studies
    done = CliRunner().invoke(main, ["report", "aggregate", study])
    assert done.exit_code == 1 and "was computed with other settings" in done.output


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("92.58,0.48", "92.58 %,0.48", r"ntk_cl_paper\.csv, line \d+: mean"),
        ("2,vit_b16_in21k,cifar100,EASE", "2,vit_b16_in21k,cifar10,EASE", "differ in cifar10 with vit_b16_in21k"),
        ("4,vit_b16_in21k,vtab", "6,vit_b16_in21k,vtab", "tables.4 of the study differ in vtab"),
        ("2,vit_b16_in21k,cifar100,EASE,CVPR 2024,final", "2,vit_b16_in21k,cifar100,EASE,CVPR 2024,average", "twice"),
        ("metric,mean", "metric,average", "line 2: "),
    ],
)
def test_a_wrong_csv_is_refused(study, old, new, message):
    path = Path("params") / CSV
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(UserError, match=message):
        aggregate(study)


def test_a_missing_csv_is_refused(study):
    (Path("params") / CSV).unlink()
    with pytest.raises(UserError, match=r"cannot read params/published/ntk_cl_paper\.csv"):
        aggregate(study)
