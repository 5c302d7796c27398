"""What a shell, a cluster or another program leaves around the commands: variables, folders, encodings, clocks."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ntkcl.devices import distributed
from ntkcl.errors import UserError
from ntkcl.pipeline.existing_results import set_back_future_times
from ntkcl.pipeline.setup import _named
from ntkcl.runs import resolve
from ntkcl.settings.files import load_dataset, load_study
from ntkcl.storage import provenance
from ntkcl.training.train import train_task
from tests.helpers.commands import ntkcl, ntkcl_process, one_line
from tests.helpers.learners import CPU
from tests.helpers.projects import clear_settings, git

STUDY = "title: T\ndatasets: [digits]\nbackbones: [vit_tiny]\nvariants: [simplecil]\nseeds: [0]\n"


def test_variables_that_another_launcher_left_behind_are_ignored(tiny, monkeypatch):
    for name, value in {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LOCAL_RANK", "no number")
    run = resolve("digits", "vit_tiny", "simplecil", 0)
    train_task(run, 0, CPU)
    assert distributed.world_size() == 1
    assert run.state_path(0).exists()


def test_output_that_is_not_utf_8_has_escapes(tiny):
    path = Path("params/datasets/digits.yaml")
    path.write_text(path.read_text().replace("label: ", "lábel: "), encoding="utf-8")
    done = ntkcl_process("data", "list", env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0, done.stderr
    assert "unknown key 'l\\xe1bel'" in done.stdout


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become a user that does not exist")
def test_a_home_is_not_needed():
    """Nobody in the list of users has this number, so that there is no home either."""
    command = "import os; from ntkcl.pipeline.wandb_upload import is_logged_in; os.setuid(54321); "
    command += "os.environ.pop('HOME', None); print(is_logged_in())"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr


def test_the_commit_of_a_repository_around_a_copy_is_not_recorded(tmp_path, monkeypatch):
    copy = tmp_path / "code/storage/provenance.py"
    copy.parent.mkdir(parents=True)
    copy.write_bytes(Path(provenance.__file__).read_bytes())
    git(tmp_path, "init", "--quiet")
    (tmp_path / ".gitignore").write_text("code/\n")
    git(tmp_path, "add", ".gitignore")
    git(tmp_path, "commit", "--quiet", "--message", "outer")
    monkeypatch.setattr(provenance, "CODE", tmp_path / "code")
    assert provenance.commit() == "unknown"
    (tmp_path / ".gitignore").write_text("")
    git(tmp_path, "add", "code")
    git(tmp_path, "commit", "--quiet", "--all", "--message", "tracked")
    provenance._commit.cache_clear()  # another process
    commit = git(tmp_path, "rev-parse", "--short=12", "HEAD").strip()
    assert provenance.commit() == commit
    (tmp_path / "code/methods").mkdir()
    (tmp_path / "code/methods/mine.py").touch()  # any file of the package
    assert provenance.commit() == commit  # this process has read the code before
    provenance._commit.cache_clear()
    assert provenance.commit() == f"{commit}+"


def test_times_in_the_future_are_set_back(finished, capsys):
    run, hours = resolve("digits", "vit_tiny", "simplecil", 0), time.time() + 3 * 3600
    ahead = [Path("data/digits/manifest.csv"), run.state_path(1), Path("backbones/vit_tiny.safetensors")]
    before = run.state_path(0).stat().st_mtime
    for path in ahead:
        os.utime(path, (hours, hours))
    set_back_future_times([run])
    assert all(path.stat().st_mtime <= time.time() for path in ahead)
    assert run.state_path(0).stat().st_mtime == before
    assert "and 2 more files was in the future" in capsys.readouterr().err
    set_back_future_times([run])
    assert not capsys.readouterr().err


@pytest.mark.parametrize("name,read", [("2024_01", 202401), ("1e3", 1000.0), ("True", True), ("2024", 2024)])
def test_a_study_whose_name_snakemake_changes_is_found(tiny, name, read):
    Path(f"params/studies/{name}.yaml").write_text(STUDY)
    assert _named(read) == name
    assert _named(name) == name


def test_two_studies_that_snakemake_cannot_tell_apart_are_refused(tiny):
    for name in ("20_24", "2024"):
        Path(f"params/studies/{name}.yaml").write_text(STUDY)
    with pytest.raises(UserError, match=r"reads each of the studies 2024, 20_24 as 2024"):
        _named(2024)


def test_a_key_that_stands_twice_is_refused(tiny):
    Path("params/studies/double.yaml").write_text(STUDY + "seeds: [0, 1]\n")
    clear_settings()
    with pytest.raises(UserError, match=r"double.yaml is not valid YAML: the key 'seeds' stands twice \(line 6\)"):
        load_study("double")
    Path("params/studies/merged.yaml").write_text("a: &a {title: X}\n<<: *a\n" + STUDY)
    with pytest.raises(UserError, match="unknown key 'a'"):  # a merged key may stand there again
        load_study("merged")


@pytest.mark.parametrize(
    "encoding,is_read", [("utf-8", True), ("utf-8-sig", True), ("utf-16", True), ("latin-1", False)]
)
def test_encodings_of_settings(tiny, encoding, is_read):
    path = Path("params/datasets/chiffres.yaml")
    text = Path("params/datasets/digits.yaml").read_text()
    path.write_bytes(text.replace("label: Digits", "label: Chiffres é").encode(encoding))
    clear_settings()
    if encoding != "latin-1":
        assert load_dataset("chiffres").label == "Chiffres é"
    else:
        listed = ntkcl("data", "list")
        assert listed.returncode == 0
        assert "chiffres.yaml, line" in listed.stdout and "is not in UTF-8; save the file in UTF-8" in listed.stdout
        assert "digits " in listed.stdout


def test_settings_nested_without_end_are_one_line(tiny):
    Path("params/studies/deep.yaml").write_text("[" * 100_000)
    assert "is not valid YAML" in one_line(ntkcl("check", "deep"))


@pytest.mark.parametrize("device", ["gpu", "mps", "cuda:x", "CPU"])
def test_devices_that_do_not_exist_are_refused(tiny, device):
    done = ntkcl("train", "digits", "vit_tiny", "simplecil", "0", "--task", "0", "--device", device)
    assert f"device is '{device}'; give 'cpu', 'cuda', 'cuda:N' or 'auto'" in one_line(done)
