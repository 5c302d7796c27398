"""Verification of a file: replay in float64, and the largest error of each group with its limit."""

import re
from pathlib import Path

import torch

from ntkcl.errors import UserError
from ntkcl.registry import REPLAYS
from ntkcl.verification.ntk_cl import verify_ntk_cl
from ntkcl.verification.replay import LIMIT
from ntkcl.verification.trajectory import NOT_A_TRAJECTORY, Trajectory


def verify_trajectory(path: Path) -> dict[str, tuple[float, float]]:
    """Replay the trajectory in `path` in float64 with the method that it names.

    Returns:
        The largest relative error of each group of arrays, and its limit. For an array the error is the largest
        difference divided by the largest value.

    Raises:
        UserError: the file is not a trajectory of a known method.
    """
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        trajectory = Trajectory.read(path)
        method = trajectory.meta.get("method")
        if method is None:  # the layout of NTK-CL's files is older
            return {group: (error, LIMIT) for group, error in verify_ntk_cl(trajectory.arrays).items()}
        return _replayed(trajectory, method)
    except NOT_A_TRAJECTORY as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path} is not a valid trajectory ({reason}); see docs/trajectories.md") from error
    finally:
        torch.set_default_dtype(default)


def _replayed(trajectory: Trajectory, method: str) -> dict[str, tuple[float, float]]:
    if method not in REPLAYS.names():
        raise ValueError(f"method '{method}', which has no module in ntkcl/verification/")
    replay = REPLAYS.load(method)
    for variant in replay.variants:
        replay(trajectory, variant).run()
    given = ("images/", "labels/", "vit/", "meta")
    left = [key for key in trajectory.arrays if key not in trajectory.compared and not key.startswith(given)]
    expected = (*replay.not_compared, r"task\d+/(batches|start/.*|drawn/.*)", "features/test_rows")
    if unknown := [key for key in left if not any(re.fullmatch(pattern, key) for pattern in expected)]:
        raise ValueError(f"nothing was compared with {unknown[0]}")
    for task in range(len(trajectory.meta["sizes"])):
        if f"task{task}/scores" not in trajectory.compared:
            raise ValueError(f"no task{task}/scores in the file")
    return {group: (error, replay.limits.get(group, LIMIT)) for group, error in trajectory.errors.items()}
