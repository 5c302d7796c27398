"""Replay of APER, recorded with the official code."""

from typing import Any, ClassVar

import torch

from ntkcl.tasks import Task
from ntkcl.verification.ease import adapter_settings, sgd
from ntkcl.verification.ranpac import FIRST_TASK_NAMES
from ntkcl.verification.replay import Replay


class APERReplay(Replay):
    """APER with an adapter."""

    method = "aper"
    names: ClassVar = FIRST_TASK_NAMES

    def settings(self) -> dict[str, Any]:
        """Settings of the adapters."""
        return adapter_settings(self.meta)

    def training(self) -> dict[str, Any]:
        """SGD with a cosine schedule."""
        return super().training() | sgd(self.meta)

    def features(self) -> None:
        """Compare the plain feature: new adapters add nothing."""
        adapted, plain = self.learner.extract_features(self.test_rows())
        for feature in (adapted, plain):
            self.file.compare("features", feature, "features/frozen")

    def kept(self, task: Task) -> None:
        """Compare prototypes, and the plain and adapted features."""
        self.file.compare("kept", self.learner.prototypes, f"task{task.index}/kept/fc.weight")
        adapted, plain = self.learner.extract_features(self.test_rows())
        self.file.compare("kept", torch.cat((plain, adapted), 1), f"task{task.index}/kept/features")


REPLAY = APERReplay
