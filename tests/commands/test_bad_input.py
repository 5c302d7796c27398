"""What goes wrong is one line that says what, where and what to do; the exit code is 1 and nothing finished is lost."""

import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ntkcl.errors import UserError
from ntkcl.runs import resolve, runs_of
from ntkcl.settings.files import load_study
from tests.conftest import REPOSITORY, clear_settings

RUN = ["digits", "vit_tiny", "ntk_cl", "0"]


def ntkcl(*arguments: str, before: list[str] | None = None, **options) -> subprocess.CompletedProcess:
    command = [*(before or []), sys.executable, "-m", "ntkcl.commands.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, **options)


def one_line(done: subprocess.CompletedProcess) -> str:
    assert done.returncode == 1, done.stderr
    errors = [line for line in done.stderr.splitlines() if line]
    assert len(errors) == 1, done.stderr
    assert errors[0].startswith("error: ")
    return errors[0]


def change(path: str, old: str, new: str) -> None:
    text = Path(path).read_text()
    assert old in text
    Path(path).write_text(text.replace(old, new))
    clear_settings()


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
def test_settings_are_validated_before_anything_runs(tiny, path, old, new, expected):
    change(path, old, new)
    assert expected in failure()


def test_nested_keys_get_their_own_nearest_name(tiny):
    change("params/backbones.yaml", "depth: 2", "dept: 2")
    assert "unknown key 'architecture.dept'; did you mean 'depth'?" in failure()
    change("params/backbones.yaml", "dept: 2", "depth: 2")
    change(METHOD, "training:", "datasets: {digits: {trainng: {}}}\ntraining:")
    assert "unknown key 'datasets.digits.trainng'; did you mean 'training'?" in failure()


def test_the_shipped_studies_are_valid(project):
    for path in Path("params/studies").glob("*.yaml"):
        assert runs_of(load_study(path.stem))


def test_equal_settings_have_equal_digests_however_they_are_written(tiny):
    first = resolve("digits", "vit_tiny", "ntk_cl", 0).digest
    change(METHOD, "epochs: 2", "epochs: 2, momentum: 0.9")
    assert resolve("digits", "vit_tiny", "ntk_cl", 0).digest == first
    change(DATASET, "size: 16", "size: 16, holdout: test")
    assert resolve("digits", "vit_tiny", "ntk_cl", 0).digest == first
    change(METHOD, "momentum: 0.9", "momentum: 0.8")
    assert resolve("digits", "vit_tiny", "ntk_cl", 0).digest != first


def test_a_changed_backbone_or_dataset_changes_the_runs(tiny):
    digests = {resolve("digits", "vit_tiny", "ntk_cl", 0).digest}
    change("params/backbones.yaml", "steps: 40", "steps: 41")
    digests.add(resolve("digits", "vit_tiny", "ntk_cl", 0).digest)
    change(DATASET, "options: {size: 16}", "options: {size: 16, seed: 1}")
    digests.add(resolve("digits", "vit_tiny", "ntk_cl", 0).digest)
    change("params/datasets/letters.yaml", "options: {size: 16}", "options: {size: 16, seed: 1}")
    digests.add(resolve("digits", "vit_tiny", "ntk_cl", 0).digest)
    assert len(digests) == 4


def test_the_pipeline_refuses_an_unknown_study_before_it_plans(tiny):
    for part in ("Snakefile", "workflow", "profiles"):
        source = REPOSITORY / part
        (shutil.copytree if source.is_dir() else shutil.copy)(source, part)
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--config", "study=quikstart"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert (
        "error: unknown study 'quikstart': no params/studies/quikstart.yaml; did you mean 'quickstart'?" in done.stderr
    )
    assert "Traceback" not in done.stderr


def test_a_dataset_with_another_number_of_classes(tiny):
    change(DATASET, "classes: 10\nfirst_task_classes: 6", "classes: 14\nfirst_task_classes: 10")
    assert "made 10; set classes to 10" in one_line(ntkcl("data", "prepare", "digits"))


def test_missing_data_and_backbone_name_the_command(tiny):
    shutil.rmtree("data/digits")
    assert "ntkcl data prepare digits" in one_line(ntkcl("train", *RUN, "--task", "0"))
    shutil.rmtree("backbones")
    Path("data").rename("elsewhere")
    Path("elsewhere").rename("data")
    assert ntkcl("data", "prepare", "digits").returncode == 0
    assert "ntkcl backbone vit_tiny" in one_line(ntkcl("train", *RUN, "--task", "0"))


def test_a_full_disk_leaves_no_half_file(tiny):
    """Simulated by a limit on the size of files; the state is larger than it, the log of losses is not."""
    assert ntkcl("train", *RUN, "--task", "0").returncode == 0
    state = Path("runs/digits/vit_tiny/ntk_cl/seed0/task0/state.safetensors")
    before = state.read_bytes()
    limit = len(before) // 2
    done = ntkcl(
        "train", *RUN, "--task", "1", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    )
    message = one_line(done)
    assert "cannot write runs/digits/vit_tiny/ntk_cl/seed0/task1/state.safetensors" in message
    assert "free space" in message
    assert state.read_bytes() == before
    assert not list(Path("runs").rglob("*.partial"))
    assert not list(Path("runs").rglob("task1/state*"))
    assert ntkcl("train", *RUN, "--task", "1").returncode == 0


def test_no_permission_to_write(tiny):
    Path("runs").mkdir()
    Path("runs").chmod(0o555)
    # as root, permissions hold only without the capability to override them
    before = ["setpriv", "--bounding-set=-dac_override"] if shutil.which("setpriv") else []
    message = one_line(ntkcl("train", *RUN, "--task", "0", before=before))
    Path("runs").chmod(0o755)
    assert "cannot write runs/digits" in message
    assert "Permission denied" in message


def test_a_missing_package_is_named():
    code = "import sys; sys.modules['safetensors'] = None; from ntkcl.commands.cli import main; main()"
    command = [sys.executable, "-c", code, "data", "prepare", "digits"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
    assert "safetensors is missing; install it with `make install`" in one_line(done)


def test_a_gpu_that_is_not_there(tiny):
    import torch

    if torch.cuda.is_available():
        assert ntkcl("train", *RUN, "--task", "0", "--device", "cuda").returncode == 0
    else:
        message = one_line(ntkcl("train", *RUN, "--task", "0", "--device", "cuda"))
        assert "no GPU that torch can use" in message


def test_the_package_needs_none_of_the_pipelines_tools():
    """A GPU machine may have torch and timm, but not Snakemake, DVC or W&B."""
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('snakemake', 'dvc', 'wandb')))\n"
        "import ntkcl.commands.cli, ntkcl.verification.ntk_cl, ntkcl.data.prepared.prepare\n"
        "import ntkcl.backbones.pretraining, ntkcl.pipeline.wandb_log\n"
        "import ntkcl.reporting.tables.write, ntkcl.reporting.figures\n"
        "from ntkcl.registry import METHODS\n"
        "[METHODS.load(name) for name in METHODS.names()]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
