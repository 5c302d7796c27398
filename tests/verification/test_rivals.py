"""The methods of the comparison agree, in float64 and through all tasks, with what official code computed."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from ntkcl.commands.cli import main
from ntkcl.errors import UserError
from ntkcl.registry import METHODS, REPLAYS
from ntkcl.verification.verify import verify_trajectory

FOLDER = Path(__file__).parents[1] / "trajectories"
FILES = sorted(path.stem for path in FOLDER.glob("*.npz") if not path.stem.endswith("_sections"))


@cache
def content(name: str) -> dict[str, np.ndarray]:
    """The arrays of a file; do not change them."""
    with np.load(FOLDER / f"{name}.npz") as file:
        return dict(file)


def changed(folder: Path, name: str, **changes: np.ndarray) -> Path:
    """A copy of a file with some arrays replaced."""
    np.savez(folder / "changed.npz", **(content(name) | changes))
    return folder / "changed.npz"


def test_every_replay_has_a_method_and_a_file():
    methods = {json.loads(str(content(name)["meta"]))["method"] for name in FILES}
    assert methods == set(REPLAYS.names())
    assert methods <= set(METHODS.names())


@pytest.mark.parametrize("name", FILES)
def test_agrees_with_official_code(name):
    errors = verify_trajectory(FOLDER / f"{name}.npz")
    assert {"features", "scores"} < set(errors)
    assert all(error <= limit for error, limit in errors.values()), errors


@pytest.mark.parametrize("name", FILES)
def test_a_small_disagreement_is_an_error(tmp_path, name):
    arrays, number = content(name), len(json.loads(str(content(name)["meta"]))["sizes"]) - 1
    last = [
        key for key in arrays if key.startswith(f"task{number}/") and ("/trained/" in key or key.endswith("/scores"))
    ]
    path = changed(tmp_path, name, **{key: arrays[key] * (1 + 1e-6) for key in last})
    result = CliRunner().invoke(main, ["verify", "trajectory", str(path)])
    assert result.exit_code == 1
    assert "scores" in result.output.splitlines()[-1]
    assert "differ by more than" in result.output.splitlines()[-1]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("change", ["an unknown method", "no scores", "another shape", "an unknown array"])
def test_a_file_of_other_content_is_refused(tmp_path, name, change):
    arrays = dict(content(name))
    if change == "an unknown method":
        arrays["meta"] = np.array(json.dumps(json.loads(str(arrays["meta"])) | {"method": "none"}))
    elif change == "no scores":
        del arrays["task1/scores"]
    elif change == "another shape":
        arrays["task1/scores"] = arrays["task1/scores"][:, :-1]
    else:
        arrays["task1/extra"] = np.zeros(2)
    np.savez(tmp_path / "other.npz", **arrays)
    with pytest.raises(UserError, match="is not a valid trajectory"):
        verify_trajectory(tmp_path / "other.npz")
