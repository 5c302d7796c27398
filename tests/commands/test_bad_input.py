"""What goes wrong is one line that says what, where and what to do; the exit code is 1 and nothing finished is lost."""

import resource
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
import torch
from click.testing import CliRunner

from ntkcl.commands.options import Commands
from ntkcl.errors import UserError
from ntkcl.runs import resolve, runs_of
from ntkcl.settings.files import load_study
from tests.helpers.commands import ntkcl, ntkcl_process, one_line
from tests.helpers.projects import REPOSITORY, change, copy_pipeline

TRAIN = ["train", "digits", "vit_tiny", "ntk_cl", "0", "--device", "cpu", "--task"]


def failure() -> str:
    with pytest.raises(UserError) as error:
        runs_of(load_study("quickstart"))
    assert "\n" not in str(error.value)
    return str(error.value)


STUDY, METHOD, DATASET = (f"params/{name}.yaml" for name in ("studies/quickstart", "methods/ntk_cl", "datasets/digits"))


@pytest.mark.parametrize(
    ("path", "old", "new", "expected"),
    [
        (
            STUDY,
            "[digits]",
            "[digit]",
            "unknown dataset 'digit': no params/datasets/digit.yaml; did you mean 'digits'?",
        ),
        (
            STUDY,
            "[vit_tiny]",
            "[vit]",
            "unknown backbone 'vit' (not in params/backbones.yaml); did you mean 'vit_tiny'?",
        ),
        (STUDY, "ntk_cl,", "ntkcl,", "unknown method 'ntkcl': no params/methods/ntkcl.yaml; did you mean 'ntk_cl'?"),
        (STUDY, "ntk_cl,", "ntk_cl/no_ema,", "'no_ema' is neither a named variant nor SETTING_VALUE"),
        (STUDY, "seeds: [0]", "seeds: [-1]", "seeds.0: Input should be greater than or equal to 0"),
        (STUDY, "seeds:", "seed:", "unknown key 'seed'; did you mean 'seeds'?"),
        (METHOD, "learner: ntk_cl", "learner: ntkcl", "unknown learner 'ntkcl'"),
        (METHOD, "adapter_width", "adpter_width", "unknown key 'adpter_width'; did you mean 'adapter_width'?"),
        (METHOD, "epochs: 2", "epoch: 2", "unknown key 'epoch'; did you mean 'epochs'?"),
        (
            METHOD,
            "label:",
            "datasets: {digitz: {}}\nlabel:",
            "unknown dataset 'datasets.digitz'; did you mean",
        ),
        (STUDY, "seeds: [0]", "seeds: [0, 0]", "seeds: 0 is listed twice; remove one of them"),
        (DATASET, "source: digits", "source: digitz", "unknown source 'digitz'"),
        (DATASET, "size: 16", "sice: 16", "options: unknown key 'sice'; did you mean 'size'?"),
        (METHOD, "epochs: 2", "lr: -1", "training: lr: Input should be greater than 0"),
        (METHOD, "label: NTK-CL", "label: [", "params/methods/ntk_cl.yaml is not valid YAML"),
        (
            DATASET,
            "first_task_classes: 6",
            "first_task_classes: 5",
            "10 classes do not fit a first task of 5 and later tasks of 4",
        ),
        (DATASET, "classes: 10", "clases: 10", "unknown key 'clases'; did you mean 'classes'?"),
    ],
)
def test_settings_are_validated_before_anything_runs(tiny_settings, path, old, new, expected):
    change(path, old, new)
    assert expected in failure()


def test_nested_keys_get_their_own_nearest_name(tiny_settings):
    change("params/backbones.yaml", "depth: 2", "dept: 2")
    assert "unknown key 'architecture.dept'; did you mean 'depth'?" in failure()
    change("params/backbones.yaml", "dept: 2", "depth: 2")
    change(METHOD, "training:", "datasets: {digits: {trainng: {}}}\ntraining:")
    assert "unknown key 'datasets.digits.trainng'; did you mean 'training'?" in failure()


def test_the_shipped_studies_are_valid(project):
    for path in Path("params/studies").glob("*.yaml"):
        assert runs_of(load_study(path.stem))


def test_equal_settings_have_equal_digests_however_they_are_written(tiny_settings):
    first = resolve("digits", "vit_tiny", "ntk_cl", 0).digest
    change(METHOD, "epochs: 2", "epochs: 2, momentum: 0.9")
    assert resolve("digits", "vit_tiny", "ntk_cl", 0).digest == first
    change(DATASET, "size: 16", "size: 16, holdout: test")
    assert resolve("digits", "vit_tiny", "ntk_cl", 0).digest == first
    change(METHOD, "momentum: 0.9", "momentum: 0.8")
    assert resolve("digits", "vit_tiny", "ntk_cl", 0).digest != first


def test_a_changed_backbone_or_dataset_changes_the_runs(tiny_settings):
    digests = {resolve("digits", "vit_tiny", "ntk_cl", 0).digest}
    change("params/backbones.yaml", "steps: 40", "steps: 41")
    digests.add(resolve("digits", "vit_tiny", "ntk_cl", 0).digest)
    change(DATASET, "options: {size: 16}", "options: {size: 16, seed: 1}")
    digests.add(resolve("digits", "vit_tiny", "ntk_cl", 0).digest)
    change("params/datasets/letters.yaml", "options: {size: 16}", "options: {size: 16, seed: 1}")
    digests.add(resolve("digits", "vit_tiny", "ntk_cl", 0).digest)
    assert len(digests) == 4


def test_the_pipeline_refuses_an_unknown_study_before_it_plans(tiny_settings):
    copy_pipeline(tiny_settings)
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--config", "study=quikstart"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert (
        "error: unknown study 'quikstart': no params/studies/quikstart.yaml; did you mean 'quickstart'?" in done.stderr
    )
    assert "Traceback" not in done.stderr


def test_a_dataset_with_another_number_of_classes(tiny_settings):
    change(DATASET, "classes: 10\nfirst_task_classes: 6", "classes: 14\nfirst_task_classes: 10")
    assert "made 10; set classes to 10" in one_line(ntkcl("data", "prepare", "digits"))


def test_missing_data_and_backbone_name_the_command(tiny):
    shutil.rmtree("backbones")
    assert "ntkcl backbone vit_tiny" in one_line(ntkcl(*TRAIN, "0"))
    shutil.rmtree("data/digits")
    assert "ntkcl data prepare digits" in one_line(ntkcl(*TRAIN, "0"))


def test_a_full_disk_leaves_no_half_file(finished):
    """Simulated by a limit on the size of files; the state is larger than it, the log of losses is not."""
    shutil.rmtree("runs/digits/vit_tiny/ntk_cl/seed0/task1")
    state = Path("runs/digits/vit_tiny/ntk_cl/seed0/task0/state.safetensors")
    before = state.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
        done = ntkcl(*TRAIN, "1")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    message = one_line(done)
    assert "cannot write runs/digits/vit_tiny/ntk_cl/seed0/task1/state.safetensors" in message
    assert "free space" in message
    assert state.read_bytes() == before
    assert not list(Path("runs").rglob("*.partial"))
    assert not list(state.parents[1].glob("task1/state*"))
    assert ntkcl(*TRAIN, "1").returncode == 0


def test_no_permission_to_write(finished):
    Path("reports").mkdir(mode=0o555)
    # as root, permissions count only without the capability to override them
    before = ("setpriv", "--bounding-set=-dac_override") if shutil.which("setpriv") else ()
    message = one_line(ntkcl_process("report", "aggregate", "quickstart", before=before))
    assert "cannot write reports/metrics.json" in message
    assert "Permission denied" in message


def test_a_missing_package_is_named():
    code = "import sys; sys.modules['yaml'] = None; from ntkcl.commands.cli import main; main()"
    command = [sys.executable, "-c", code, "check"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
    assert "yaml is missing; install it with `make install`" in one_line(done)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(tiny):
    message = one_line(ntkcl(*TRAIN, "0", "--device", "cuda"))
    assert "no GPU that torch can use" in message


def test_a_gpu_without_memory_is_one_line():
    @click.group(cls=Commands)
    def group() -> None:
        """A group with a command that needs more memory than a GPU has."""

    @group.command()
    def compute() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore lines")

    result = CliRunner().invoke(group, ["compute"])
    assert result.exit_code == 1
    assert result.output.count("\n") == 1 and "Tried to allocate 2.00 GiB" in result.output
