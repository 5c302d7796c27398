"""Replay of L2P-PGP, recorded with the official code."""

from typing import Any, ClassVar

import torch
from torch import Tensor

from ntkcl.tasks import Task
from ntkcl.verification.l2p import L2PReplay


class L2PPGPReplay(L2PReplay):
    """L2P-PGP as released; the images of the memories come from the file."""

    method = "l2p_pgp"
    names: ClassVar = L2PReplay.names | {r"memory_images": "memory_images"}

    def settings(self) -> dict[str, Any]:
        """Settings of the pool and of the memories."""
        names = ("prompt_components", "key_components", "prompt_threshold", "key_threshold")
        return super().settings() | {name: self.meta[name] for name in names} | {"space": "images"}

    def start(self, task: Task) -> None:
        """Load the pool and the head, and let the learner take the images of the file for its memories."""
        key = f"task{task.index}/start/memory_images"

        def memory(images: object) -> tuple[Tensor, Tensor]:
            return self.learner.backbone_forward(self.train_images[self.file[key]])

        self.learner.memory = memory
        if not task.index:
            super().start(task)

    def tensors(self) -> dict[str, Tensor]:
        """The learner's tensors, and a place for what is no tensor of it."""
        return super().tensors() | {"memory_images": torch.empty_like(self.file["task0/start/memory_images"])}

    def begun(self, task: Task) -> None:
        """Compare the representations, and the projections on both bases, whose columns have free signs."""
        memories = {"prompt": self.learner.of_prompts, "key": self.learner.of_keys}
        for (name, memory), ours in zip(memories.items(), self.learner.representations, strict=True):
            key = f"task{task.index}/kept/{name}"
            self.file.compare("kept", ours, f"{key}_representation")
            theirs = self.file[f"{key}_basis"]
            self.file.compare("kept", memory.projector(), f"{key}_basis", theirs @ theirs.T)

    def features(self) -> None:
        """Compare also the patch embedding."""
        super().features()
        patches = self.learner.backbone.patch_embed(self.test_rows())
        self.file.compare("features", patches, "features/patch_embedding")


REPLAY = L2PPGPReplay
