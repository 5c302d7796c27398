"""Replay of SimpleCIL, recorded with LAMDA-PILOT."""

from typing import Any

from ntkcl.tasks import Task
from ntkcl.verification.replay import Replay


class SimpleCILReplay(Replay):
    """Class means of the frozen feature; nothing is trained."""

    method = "simplecil"
    not_compared = (r"task\d+/kept/fc\.sigma",)  # always 1

    def training(self) -> dict[str, Any]:
        """No training."""
        return {"epochs": 0}

    def features(self) -> None:
        """Compare the plain feature."""
        self.file.compare("features", self.learner.extract_features(self.test_rows())[0], "features/frozen")

    def kept(self, task: Task) -> None:
        """Compare the prototypes."""
        self.file.compare("kept", self.learner.prototypes, f"task{task.index}/kept/fc.weight")


REPLAY = SimpleCILReplay
