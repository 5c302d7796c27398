"""Replay of L2P, recorded with the PyTorch port of the official code."""

from typing import Any, ClassVar

import torch
from torch import Tensor

from ntkcl.tasks import Task
from ntkcl.verification.replay import Replay


class L2PReplay(Replay):
    """L2P: the vote of the batch as released, and each image with its own prompts."""

    method = "l2p"
    names: ClassVar = {
        r"prompt\.prompt": "pool.prompts",
        r"prompt\.prompt_key": "pool.keys",
        r"head\.(weight|bias)": r"head.\1",
    }
    columns: ClassVar = {"ce": "cross_entropy", "grad_norm_before_clip": "grad_norm"}
    not_compared = (r"task\d+/selected",)  # the prompts used in training: losses depend on them

    def settings(self) -> dict[str, Any]:
        """Settings of the pool."""
        return {
            "pool_size": self.meta["pool_size"],
            "prompt_length": self.meta["prompt_length"],
            "top_k": self.meta["top_k"],
            "key_weight": self.meta["key_similarity_weight"],
            "batch_vote": "training" if self.meta["batchwise_prompt"] else "never",
        }

    def training(self) -> dict[str, Any]:
        """Adam with a constant learning rate."""
        return super().training() | {"optimizer": "adam", "clip_norm": self.meta["clip_grad_norm"]}

    def features(self) -> None:
        """Compare queries, similarities and prompted features."""
        images = self.test_rows()
        _, query = self.learner.backbone_forward(images)
        self.file.compare("features", query, "features/query")
        self.file.compare("features", self.learner.pool.similarity(query), "features/similarity")
        self.file.compare("features", self.learner.extract_features(images)[0], "features/prompted")

    def scores(self, task: Task) -> None:
        """Compare the scores of each image alone and, if the file has them, those of the batches of each task."""
        super().scores(task)
        images, number = self.known_test_images(task), task.index
        self._compare_selected(images, f"task{number}/selected_test", list(torch.arange(len(images)).split(1)))
        if f"task{number}/scores_batchwise" in self.file.arrays:
            with_vote = self.learner.settings.model_copy(update={"batch_vote": "always"})
            own, self.learner.settings = self.learner.settings, with_vote
            parts = [self.learner.scores(images[rows]) for rows in self.test_batches(task)]
            self.file.compare("scores_batchwise", torch.cat(parts), f"task{number}/scores_batchwise")
            self._compare_selected(images, f"task{number}/selected_batchwise", self.test_batches(task))
            self.learner.settings = own

    def _compare_selected(self, images: Tensor, key: str, batches: list[Tensor]) -> None:
        """Compare the prompts of each image, of which the order has no effect."""
        similarity = self.learner.pool.similarity(self.learner.backbone_forward(images)[1])
        chosen = torch.cat([self.learner.choose(similarity[rows]) for rows in batches])
        self.file.compare("selected", chosen.sort(1)[0], key, self.file[key].sort(1)[0])


REPLAY = L2PReplay
