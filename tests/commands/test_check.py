"""`ntkcl check`: what it reports without running anything."""

from pathlib import Path

from click.testing import CliRunner

from ntkcl.commands.cli import main
from tests.helpers.projects import clear_settings


def check(study: str) -> str:
    clear_settings()
    done = CliRunner().invoke(main, ["check", study])
    assert done.exit_code == 0, done.output
    return done.output


def write_study(datasets: str) -> None:
    text = (
        f"title: Mine\ndatasets: [{datasets}]\nbackbones: [vit_micro]\nvariants: [ntk_cl, simplecil]\nseeds: [0, 1]\n"
    )
    Path("params/studies/mine.yaml").write_text(text)


def test_a_dataset_that_a_method_does_not_list_is_reported_once(project):
    write_study("digits, letters")
    output = check("mine")
    assert "study mine: 8 runs, 24 training jobs, all settings valid" in output
    note = "params/methods/ntk_cl.yaml does not list dataset 'letters'; it uses the published settings for CIFAR-100"
    assert output.count("note:") == 1 and note in " ".join(output.split())


def test_a_methods_file_says_what_other_datasets_get(project):
    write_study("letters")
    path = Path("params/methods/ntk_cl.yaml")
    other = "other_datasets:\n  note: settings for small images\n  training: {lr: 0.5}\n"
    path.write_text(path.read_text().replace("other_datasets:\n  note: the published settings for CIFAR-100\n", other))
    assert "it uses settings for small images" in check("mine")
    from ntkcl.runs import resolve

    assert resolve("letters", "vit_micro", "ntk_cl", 0).training.lr == 0.5
    assert resolve("digits", "vit_micro", "ntk_cl", 0).training.lr == 0.005


def test_listed_datasets_need_no_note(project):
    assert "note:" not in check("quickstart")
