"""`ntkcl verify report`: tables that follow from the data pass, and each thing that does not is named."""

import gzip
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from ntkcl.commands.cli import main
from ntkcl.commands.report import digests
from ntkcl.reporting.collect import aggregate
from ntkcl.reporting.tables.write import write_tables
from ntkcl.runs import Run, resolve
from ntkcl.storage.files import read_json, write_sealed_json
from ntkcl.verification.results import problems_of_report


@pytest.fixture
def run(finished) -> Run:
    """A run of a study whose tables are written."""
    aggregate("quickstart", digests("quickstart"))
    write_tables()
    return resolve("digits", "vit_tiny", "ntk_cl", 0)


def flip_last_bit(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def better_metrics(run: Run) -> None:
    """Edited by hand, with the sha256 of the new content."""
    path = run.folder / "metrics.json"
    content = read_json(path)
    content["metrics"]["average_accuracy"] += 1
    write_sealed_json(path, content)
    aggregate("quickstart", digests("quickstart"))
    write_tables()


def better_table(run: Run) -> None:
    path = Path("reports/tables.md")
    path.write_text(path.read_text() + "The best.")


def other_prediction(run: Run) -> None:
    path = run.folder / "predictions.csv.gz"
    header, first, *rest = gzip.decompress(path.read_bytes()).decode().splitlines()
    parts = first.split(",")
    parts[3] = str(1 - int(parts[3])) if parts[3] in "01" else "0"
    path.write_bytes(gzip.compress("\n".join([header, ",".join(parts), *rest, ""]).encode()))


def study_with_other_numbers(run: Run) -> None:
    path = Path("reports/metrics.json")
    content = read_json(path)
    content["runs"][0]["metrics"]["final_accuracy"] += 1
    write_sealed_json(path, content)
    write_tables()


FAULTS = {
    better_metrics: "ntk_cl/seed0/metrics.json does not follow from the predictions",
    better_table: "reports/tables.md does not follow from reports/metrics.json",
    other_prediction: "metrics.json does not follow from the predictions",
    study_with_other_numbers: "reports/metrics.json does not follow from the runs' metrics",
    lambda run: flip_last_bit(run.state_path(1)): "task1/state.safetensors is damaged",
    lambda run: flip_last_bit(Path("backbones/vit_tiny.safetensors")): "backbones/vit_tiny.safetensors is damaged",
    lambda run: flip_last_bit(Path("data/digits/images.safetensors")): "data/digits is damaged",
    lambda run: run.state_path(0).unlink(): "task0/state.safetensors is missing",
    lambda run: (run.folder / "metrics.json").write_text("{}"): "was computed with other settings",
}


def test_a_finished_study_belongs_together(run):
    assert list(problems_of_report()) == []
    done = CliRunner().invoke(main, ["verify", "report"])
    assert done.exit_code == 0
    assert "belong together" in done.output and "commit" in done.output


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: FAULTS[fault].replace("/", "_")[:40])
def test_what_does_not_belong_is_named(run, fault):
    fault(run)
    problems = list(problems_of_report())
    assert any(FAULTS[fault] in problem for problem in problems), problems
    assert not any("\n" in problem for problem in problems)


def test_tables_say_when_runs_come_from_different_environments(run):
    path = run.folder / "metrics.json"
    content = json.loads(path.read_text())
    content.pop("sha256")
    content["provenance"][0] |= {"lock": "0123456789ab", "commit": "another"}
    write_sealed_json(path, content)
    other = next(p for p in Path("runs").rglob("metrics.json") if p != path)
    content = read_json(other)
    content["provenance"][0] |= {"lock": "ba9876543210"}
    write_sealed_json(other, content)
    aggregate("quickstart", digests("quickstart"))
    write_tables()
    table = Path("reports/tables.md").read_text()
    assert "different environments" in table and "0123456789ab" in table
    assert "different commits" in table
