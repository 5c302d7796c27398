"""Replay of CODA-Prompt, recorded with the official code."""

import re
from typing import Any, ClassVar

import torch
from torch import Tensor

from ntkcl.tasks import Task
from ntkcl.verification.replay import Replay

NAMES = {"k": "keys", "a": "attention", "p": "prompts"}


class CODAPromptReplay(Replay):
    """CODA-Prompt: normals come from the file, and the components that Gram-Schmidt makes of them are compared."""

    method = "coda_prompt"
    names: ClassVar = {r"last\.(weight|bias)": r"head.\1"}
    columns: ClassVar = {"ce": "cross_entropy", "ortho": "orthogonality"}
    limits: ClassVar = {"trained": 1e-8, "start": 1e-8}  # Adam amplifies the rounding of tiny gradients

    def settings(self) -> dict[str, Any]:
        """Settings of the components."""
        return {
            "pool_size": self.meta["pool_size"],
            "prompt_length": self.meta["prompt_length"],
            "blocks": self.meta["prompted_blocks"],
            "orthogonality_weight": self.meta["ortho_weight"],
        }

    def training(self) -> dict[str, Any]:
        """Adam with the released schedule."""
        schedule = {"optimizer": "adam", "schedule": "lagging_cosine", "weight_decay": self.meta["weight_decay"]}
        return super().training() | schedule

    def start(self, task: Task) -> None:
        """Load the head, and let the learner take the normals of the file."""
        if not task.index:
            tensors = self.learner.own_tensors()
            for name in ("weight", "bias"):
                tensors[f"head.{name}"].copy_(self.file[f"task0/start/last.{name}"])
        letters, blocks = {name: letter for letter, name in NAMES.items()}, self.meta["prompted_blocks"]

        def normals(name: str, layer: int, shape: torch.Size) -> Tensor:
            return self.file[f"task{task.index}/drawn/prompt.e_{letters[name]}_{blocks[layer]}"].double()

        self.learner.normals = normals

    def begun(self, task: Task) -> None:
        """Compare the components at the start."""
        self._compare_components("start", task)

    def features(self) -> None:
        """Compare the query and the prompted feature."""
        frozen = self.learner.frozen_forward(self.test_rows())
        self.file.compare("features", frozen[1], "features/frozen")
        self.file.compare("features", self.learner.features(frozen)[0], "features/prompted")

    def compare_trained(self, task: Task) -> None:
        """Compare components and head."""
        self._compare_components("trained", task)
        for name in ("weight", "bias"):
            key = f"task{task.index}/trained/last.{name}"
            self.file.compare("trained", getattr(self.learner.head, name), key)

    def _compare_components(self, group: str, task: Task) -> None:
        """The file has all components of a block in one array, those of later tasks as zeros."""
        for key in self.file.arrays:
            if match := re.fullmatch(rf"task{task.index}/{group}/prompt\.e_([kap])_(\d+)", key):
                layer = self.meta["prompted_blocks"].index(int(match[2]))
                ours = torch.cat([each[layer] for each in getattr(self.learner, NAMES[match[1]])])
                later = self.file[key][len(ours) :]
                self.file.compare(group, torch.cat((ours, torch.zeros_like(later))), key)


REPLAY = CODAPromptReplay
