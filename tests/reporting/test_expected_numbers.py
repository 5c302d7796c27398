"""Numbers that others report for a method, beside the reproduced ones."""

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from ntkcl.errors import UserError
from ntkcl.reporting.collect import aggregate
from ntkcl.reporting.csv_lines import csv_lines
from ntkcl.reporting.digest import report_digest
from ntkcl.reporting.expected_numbers import PATH, ExpectedNumber, expected_ranges, verdicts
from ntkcl.reporting.tables.terminal import show
from ntkcl.reporting.tables.write import write_tables
from ntkcl.settings.files import PARAMS, load_backbone, load_dataset, load_method, load_study
from tests.helpers.fake_study import BACKBONE, DATASET, write_run, write_yaml
from tests.helpers.projects import REPOSITORY, clear_settings

HEAD = "variant,dataset,tasks,backbone,metric,mean,std,source\n"


@pytest.fixture
def study(tmp_path, monkeypatch):
    """One method with two seeds, whose average accuracy is 60 and 62."""
    monkeypatch.chdir(tmp_path)
    clear_settings()
    lists = {"datasets": ["toy"], "backbones": ["vit"], "variants": ["fast"], "seeds": [0, 1]}
    write_yaml(Path("params/studies/small.yaml"), {"title": "Small"} | lists)
    write_yaml(Path("params/datasets/toy.yaml"), DATASET | {"label": "Toy"})
    write_yaml(Path("params/backbones.yaml"), {"vit": BACKBONE})
    write_yaml(Path("params/methods/fast.yaml"), {"label": "Fast", "learner": "x", "protocol": "incremental"})
    for seed in (0, 1):
        write_run("toy", "fast", seed, 60 + 2.0 * seed)
    Path("params/published").mkdir()
    yield "small"
    clear_settings()


def expect(*lines: str) -> None:
    tasks = len(load_dataset("toy").task_sizes)
    text = HEAD + "".join(line.replace("TASKS", str(tasks)) + "\n" for line in lines)
    Path("params/published/expected.csv").write_text(text)


@pytest.mark.parametrize(
    ("mean", "std", "said"),
    [
        ("60.5", "", "61.00 is as expected (59.50 to 61.50: README)"),
        ("58.5", "", "61.00 is 1.50 above what is expected (57.50 to 59.50: README)"),
        ("58.5", "2", "61.00 is as expected (54.50 to 62.50: README)"),
        ("70", "", "61.00 is 8.00 below what is expected (69.00 to 71.00: README); look at its settings"),
    ],
)
def test_a_run_is_as_expected_or_it_is_said_how_far_it_is_off(study, mean, std, said):
    expect(f"fast,toy,TASKS,vit,average_accuracy,{mean},{std},README")
    (line,) = verdicts(aggregate(study))
    assert said in line
    assert "look at" in said or "look at" not in line


def test_several_sources_make_one_range(study):
    expect(*(f"fast,toy,TASKS,vit,average_accuracy,{mean},,{name}" for mean, name in ((60, "paper"), (63.5, "logs"))))
    (found,) = expected_ranges(load_study(study))
    assert (found.low, found.high, found.source) == (59, 64.5, "paper; logs")


@pytest.mark.parametrize(
    "other", ["fast,toy,99,vit", "fast,toy,TASKS,vit2", "fast/x,toy,TASKS,vit", "fast,b,TASKS,vit"]
)
def test_numbers_for_other_conditions_do_not_count(study, other):
    expect(f"{other},average_accuracy,60,,paper")
    assert not expected_ranges(load_study(study))


def test_tables_show_the_range_below_the_reproduced_number(study):
    expect("fast,toy,TASKS,vit,average_accuracy,60.5,,README")
    aggregate(study)
    write_tables()
    lines = Path("reports/tables.md").read_text().splitlines()
    row = next(number for number, line in enumerate(lines) if line.startswith("| Fast"))
    assert lines[row + 1].startswith("| *expected* | *59.50 to 61.50* |")
    assert "Expected, in italics" in "\n".join(lines)
    show(console=Console(file=(text := StringIO()), width=200))
    assert "Fast, Toy, ViT_tiny: average accuracy 61.00 is as expected" in text.getvalue()


def test_tables_are_written_again_when_a_number_changes(study):
    before = report_digest(load_study(study))
    expect("fast,toy,TASKS,vit,average_accuracy,60.5,,README")
    after = report_digest(load_study(study))
    expect("fast,toy,TASKS,vit,average_accuracy,60.6,,README")
    assert len({before, after, report_digest(load_study(study))}) == 3


def test_a_wrong_line_is_named(study):
    expect("fast,toy,TASKS,vit,average_accuracy,sixty,,README")
    with pytest.raises(UserError, match=r"expected\.csv, line 2.*mean"):
        aggregate(study)


def test_the_numbers_that_are_shipped_are_of_known_methods_datasets_and_backbones(monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    clear_settings()
    for line in csv_lines(PARAMS / PATH, ExpectedNumber):
        assert load_method(line.variant.partition("/")[0]) and load_backbone(line.backbone)
        assert len(load_dataset(line.dataset).task_sizes) == line.tasks, line
    clear_settings()
