"""The method agrees, in float64 and through all tasks, with what the authors' code computed."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from ntkcl.commands.cli import main
from ntkcl.verification.verify import verify_trajectory
from tests.helpers.record_trajectory import record

FOLDER = Path(__file__).parents[1] / "trajectories"
GROUPS = {"features", "trained weights", "running mean", "prototypes", "scores"}
TERMS = ("ce_channel", "ce_patch", "ce_hybrid", "info_nce", "dissimilarity", "regularization", "total", "lr")


def rewrite(source: Path, target: Path, **changes: np.ndarray) -> Path:
    """A copy of a trajectory file with some arrays replaced."""
    with np.load(source) as file:
        arrays = dict(file)
    np.savez(target, **(arrays | changes))
    return target


def verify(path: Path) -> Result:
    return CliRunner().invoke(main, ["verify", "trajectory", str(path)])


@pytest.mark.parametrize("name", ["two_sections", "three_sections"])
def test_agrees_with_the_authors_code(name):
    errors = verify_trajectory(FOLDER / f"{name}.npz")
    assert set(errors) == GROUPS | {f"loss {term}" for term in TERMS}
    assert max(error for error, _ in errors.values()) < 1e-9, errors


def test_command_prints_every_group():
    result = verify(FOLDER / "two_sections.npz")
    assert result.exit_code == 0
    assert all(group in result.output for group in GROUPS)


def test_a_small_disagreement_of_any_group_is_an_error(tmp_path):
    arrays = {
        "features": "features/patch",
        "trained weights": "task1/trained/fusion.query.weight",
        "running mean": "task0/consolidated/pre_patch_prompt_list.1.prompt_norm.bias",
        "prototypes": "task2/consolidated/prototypes",
        "scores": "task2/logits_mixed",
    }
    with np.load(FOLDER / "two_sections.npz") as file:
        changed = {array: file[array] * (1 + 1e-7) for array in arrays.values()}
    result = verify(rewrite(FOLDER / "two_sections.npz", tmp_path / "changed.npz", **changed))
    assert result.exit_code == 1
    assert f"{', '.join(arrays)} differ by more than 1e-09" in result.output


@pytest.mark.parametrize("change", [{"lr": 0.051}, {"momentum": 0.8}, {"nce_temp": 0.1}, {"max_basis": 1}, {"seed": 3}])
def test_every_setting_matters(tmp_path, change):
    with np.load(FOLDER / "two_sections.npz") as file:
        meta = json.loads(str(file["meta"])) | change
    path = rewrite(FOLDER / "two_sections.npz", tmp_path / "changed.npz", meta=np.array(json.dumps(meta)))
    assert max(error for error, _ in verify_trajectory(path).values()) > 1e-8


@pytest.mark.parametrize("kind", ["truncated", "text", "other npz", "wrong shape"])
def test_a_file_that_is_no_trajectory_is_one_line(tmp_path, kind):
    path = tmp_path / "odd.npz"
    if kind == "truncated":
        path.write_bytes((FOLDER / "two_sections.npz").read_bytes()[:100_000])
    elif kind == "text":
        path.write_text("not an archive")
    elif kind == "other npz":
        np.savez(path, a=np.zeros(3))
    else:
        rewrite(FOLDER / "two_sections.npz", path, **{"task0/logits_mixed": np.zeros((2, 2))})
    result = verify(path)
    assert result.exit_code == 1
    assert result.output.count("\n") == 1
    assert str(path) in result.output


def test_replays_other_shapes(tmp_path):
    """Unequal tasks, other depth, width, rank and token count: recorded by our own learner, then replayed."""
    path = record(tmp_path / "own.npz", sizes=[3, 1, 2], dim=24, depth=3, heads=3, rank=5, prompts=2, patch=32)
    errors = verify_trajectory(path)
    assert set(errors) == GROUPS | {f"loss {term}" for term in TERMS}
    assert max(error for error, _ in errors.values()) < 1e-12
