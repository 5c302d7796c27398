"""The report for a browser: tables as HTML, and `snakemake --report` of a tiny study, opened in Chromium."""

import html
import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

from ntkcl.reporting.tables.html import html_file
from ntkcl.reporting.tables.model import COLUMNS, PAPER_COLUMNS, Cell, Row, Table
from tests.helpers.browser import CHROMIUM, Browser
from tests.helpers.projects import jobs_in_plan, sh

RESULTS = {  # tables and figures of each section, in the order of the menu
    "1. Tables": {"tables", "analysis"},
    "2. Accuracy": {"accuracy", "matrices", "forgetting", "ranks"},
    "3. Published and reproduced": {"published"},
    "4. Ablations": {"ablations"},
    "5. Three factors": {"sensitivity"},
    "6. Inside the kernel": {"gaps", "kernels", "spectra", "features", "forecast"},
}
STUDY = {  # with everything that a study can have
    "title": "A study for the test of the report",
    "published": "published/tiny.csv",
    "tables": {"1": {"title": "Tiny", "backbone": "vit_tiny", "datasets": ["digits"]}},
    "datasets": ["digits"],
    "backbones": ["vit_tiny"],
    "variants": ["ntk_cl", "joint"],
    "seeds": [0, 1],
    "reference": "ntk_cl",
    "ablations": [{"title": "Loss", "variants": ["ntk_cl/free"]}],
    "sweeps": {"weight": {"title": "Weight", "axis": "λ", "points": {"ntk_cl/free": 0, "ntk_cl": 1}}},
    "kernels": ["ntk_cl"],
}
PUBLISHED = """table,backbone,dataset,method,venue,metric,mean,std
1,vit_tiny,digits,NTK-CL,,average_accuracy,51.23,0.40
1,vit_tiny,digits,NTK-CL,,final_accuracy,41.23,
"""


@pytest.fixture(scope="module")
def project(pipeline_finished, tmp_path_factory) -> Path:
    """A project whose default study has everything that a report can show; the runs of its first seed exist."""
    folder = tmp_path_factory.mktemp("reported") / "project"
    shutil.copytree(pipeline_finished / "project", folder, symlinks=True)
    params = folder / "params"
    (params / "studies/quickstart.yaml").write_text(yaml.safe_dump(STUDY, sort_keys=False))
    (params / "published").mkdir()
    (params / STUDY["published"]).write_text(PUBLISHED)
    method = yaml.safe_load((params / "methods/ntk_cl.yaml").read_text())
    method["variants"] = {"free": {"label": "no regularization", "settings": {"regularization_weight": 0}}}
    (params / "methods/ntk_cl.yaml").write_text(yaml.safe_dump(method))
    return folder


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM, reason="no Chromium is installed (Debian: apt-get install chromium)")
def test_every_section_of_the_report_is_shown_in_a_browser(project, tmp_path):
    sh(project, "snakemake", "--cores", "2", "reports/tables.tex")
    sh(project, "snakemake", "--report", "reports/report.html")
    report = (project / "reports/report.html").rename(tmp_path / "report.html")  # it needs no other file
    with Browser(tmp_path / "profile") as browser:
        browser.open(report)
        text = browser.wait("document.querySelector('h1.title') && document.body.innerText")
        for part in (STUDY["title"], "seeds 0, 1", "quickstart.yaml", "Devices:", "commit"):
            assert part in text
        names = browser.value("[...document.querySelectorAll('li')].map(item => item.innerText.trim())")
        assert [name for name in names if re.match(r"\d\. ", name)] == list(RESULTS)
        for section, names in RESULTS.items():
            click(browser, link(section))
            assert check_results(browser, section, project) == names
            click(browser, link("Results"))
        click(browser, link("Statistics"))
        click(browser, link("Workflow"))
        click(browser, "document.querySelector('.prose a')")  # the text names the sections too
        browser.wait(ICONS.format("eye"))
        assert browser.errors == []
        assert browser.requests == []


ICONS = "document.querySelectorAll('a[iconname={}]').length"


def link(text: str) -> str:
    return f"[...document.querySelectorAll('a')].find(a => a.innerText.trim() == {json.dumps(text)})"


def click(browser: Browser, element: str) -> None:
    browser.wait(f"(element => element && (element.click(), true))({element})")


def check_results(browser: Browser, section: str, project: Path) -> set[str]:
    """Open each result of the section that is open, and its caption; return the names of all."""
    names = set()
    for number in range(browser.wait(ICONS.format("eye"))):
        click(browser, f"document.querySelectorAll('a[iconname=information-circle]')[{number}]")
        path = browser.wait("[...document.querySelectorAll('a')].map(a => a.innerText).find(t => /^reports/.test(t))")
        name = Path(path).stem
        shown = " ".join(browser.wait("document.querySelector('.prose-invert')?.innerText").split())
        caption = (project / f".snakemake/captions/{name}.rst").read_text().split("\n\n")[0]
        assert shown.startswith(" ".join(caption.split())[:60])
        assert "Study quickstart, seeds 0, 1; " in shown
        click(browser, "document.querySelector('a[iconname=eye]')")
        if path.endswith(".png"):
            size = f"image => image.src == results['{path}'].data_uri && image.naturalWidth > 0 && image.clientWidth"
            assert browser.wait(f"[...document.images].map({size}).find(width => width)") > 300
        else:
            content = (project / path).read_text()
            start = html.unescape(re.search("<caption.*?>(.{20})", content)[1])
            text = "document.querySelector('table')?.innerText"
            assert "NTK-CL" in browser.wait_in_frame(f"{text}.includes({json.dumps(start)}) && {text}")
        names.add(name)
        click(browser, link(section))
        browser.wait(ICONS.format("eye"))
    return names


@pytest.mark.slow
def test_one_target_makes_everything_of_a_study_that_compares_variants(project):
    plan = jobs_in_plan(sh(project, "snakemake", "--dry-run", "--forceall", "reports/tables.tex"))
    expected = {"measure_kernel": 4, "compare_variants": 1, "analysis_figures": 1, "figures": 1, "tables": 1}
    expected |= {"log_wandb": 3}  # one for the seeds of each variant
    assert {rule: plan.get(rule) for rule in expected} == expected


class Cells(HTMLParser):
    """The rows of all tables: cells as (scope, text). Elements that are not closed in order raise."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[tuple[str | None, str]]] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        if tag != "meta":
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append((dict(attributes).get("scope"), ""))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if {"th", "td"} & set(self.open):
            scope, before = self.rows[-1][-1]
            self.rows[-1][-1] = (scope, before + text)


def table(columns, sections) -> Table:
    return Table("toy-vit", "Toy <1> & more", {"": "A note."}, "", columns, sections)


def test_a_table_for_a_browser():
    row = Row("A <b>", [Cell("71.00", "1.41", best=True), Cell("-3.00", "0.10", seeds=1), *[Cell()] * 3])
    text = html_file("T & T", [table(COLUMNS, [[row], [Row("Joint", [Cell("9.00")] * 5)]])], "Notes <all>.")
    heads, first, second = Cells(text).rows
    assert [scope for scope, _ in heads] == ["col"] * 6
    assert first[0] == ("row", "A <b>") and second[0] == ("row", "Joint")
    assert [cell for _, cell in first[1:]] == ["71.00 ± 1.41", "−3.00 ± 0.10 (n = 1)", "–", "–", "–"]
    assert text.count("<strong>") == 1 and text.count("<tbody>") == 2
    for part in ("<title>T &amp; T</title>", "Toy &lt;1&gt; &amp; more</caption>", "A note.", "Notes &lt;all&gt;."):
        assert part in text


def test_published_rows_are_marked_and_datasets_head_their_columns():
    columns = [replace(column, dataset=name) for name in ("One", "Two") for column in PAPER_COLUMNS]
    rows = [Row("Ours", [Cell("1.00")] * 4), Row("published", [Cell("2.0")] * 4, published=True), Row("Others:", [])]
    text = html_file("T", [table(columns, [rows])], "")
    datasets, metrics, *_ = Cells(text).rows
    assert datasets == [("col", "Method"), ("colgroup", "One"), ("colgroup", "Two")] and len(metrics) == 4
    assert re.findall(r'<tr class="published"><th scope="row">(.*?)</th>', text) == ["published"]
    assert '<th scope="rowgroup" colspan="5">Others:</th>' in text
