"""Replay of InfLoRA, recorded with the official code."""

import re
from typing import Any, ClassVar

import torch
from torch import Tensor

from ntkcl.tasks import Task
from ntkcl.verification.replay import Replay


class InfLoRAReplay(Replay):
    """InfLoRA: singular vectors have any sign, so products B A and projectors are compared."""

    method = "inflora"
    names: ClassVar = {r"classifier_pool\.(\d+)\.(weight|bias)": r"heads.\1.\2"}

    def settings(self) -> dict[str, Any]:
        """Settings of branches and spaces."""
        return {"rank": self.meta["rank"], "first_share": self.meta["lamb"], "last_share": self.meta["lame"]}

    def training(self) -> dict[str, Any]:
        """Adam with the released schedule."""
        schedule = {"optimizer": "adam", "schedule": "lagging_cosine", "weight_decay": self.meta["weight_decay"]}
        return super().training() | schedule

    def features(self) -> None:
        """Compare the plain feature: new branches add nothing."""
        self.file.compare("features", self.learner.extract_features(self.test_rows())[0], "features/frozen")

    def begun(self, task: Task) -> None:
        """Compare A, each row with the sign of the file, which it then gets."""
        rank = self.meta["rank"]
        for index, down in enumerate(self.learner.down):
            key = f"task{task.index}/kept/lora_A.{index}"
            down[-rank:] *= (down[-rank:] * self.file[key]).sum(1, keepdim=True).sign()
            self.file.compare("kept", down[-rank:], key)

    def own(self, arrays: dict[str, Tensor]) -> dict[str, Tensor]:
        """Heads; branches are compared in `compare_trained`."""
        return super().own({name: value for name, value in arrays.items() if "lora_B" not in name})

    def compare_trained(self, task: Task) -> None:
        """Compare the task's head and B of each block."""
        super().compare_trained(task)
        for name in self.file.group(f"task{task.index}/trained/"):
            if found := re.search(r"blocks\.(\d+)\.attn\.lora_B_([kv])\.\d+\.weight", name):
                ours = {"k": self.learner.key, "v": self.learner.value}[found[2]][int(found[1])]
                self.file.compare("trained", ours, f"task{task.index}/trained/{name}")

    def kept(self, task: Task) -> None:
        """Compare covariances after training, and the spaces of old inputs or those orthogonal to them."""
        kept = f"task{task.index}/kept/"
        covariances = self.learner.covariances(self._images(task))
        for index, (space, covariance) in enumerate(zip(self.learner.spaces, covariances, strict=True)):
            self.file.compare("kept", covariance, f"{kept}covariance.{index}")
            theirs = self.file[f"{kept}basis.{index}"]
            self.file.compare("kept", space.basis @ space.basis.T, f"{kept}basis.{index}", theirs @ theirs.T)
        switched = torch.stack([space.is_allowed for space in self.learner.spaces])
        self.file.compare("switches", switched, f"{kept}retain")


REPLAY = InfLoRAReplay
