"""Replay of DualPrompt, recorded with the PyTorch port: as released, and with the batch's keys and values put right."""

from typing import Any, ClassVar

import torch
from torch import Tensor

from ntkcl.tasks import Task
from ntkcl.verification.replay import Replay


class DualPromptReplay(Replay):
    """Both variants start from the same tensors."""

    method = "dualprompt"
    variants = ("", "corrected/")
    columns: ClassVar = {"ce": "cross_entropy", "grad_norm_before_clip": "grad_norm"}
    not_compared = (r"(corrected/)?task\d+/selected",)  # always the task's row: losses depend on it

    def settings(self) -> dict[str, Any]:
        """Settings of the prefixes; each image alone, and all rows of the pool."""
        return {
            "pool_size": self.meta["pool_size"],
            "general_length": self.meta["g_prompt_length"],
            "expert_length": self.meta["e_prompt_length"],
            "general_blocks": self.meta["g_prompt_layers"],
            "expert_blocks": self.meta["e_prompt_layers"],
            "key_weight": self.meta["key_similarity_weight"],
            "search": "pool",
            "mixed": not self.variant,
        }

    def training(self) -> dict[str, Any]:
        """Adam with a constant learning rate."""
        return super().training() | {"optimizer": "adam", "clip_norm": self.meta["clip_grad_norm"]}

    def own(self, arrays: dict[str, Tensor]) -> dict[str, Tensor]:
        """The file has the heads of a prefix in a dimension of their own."""
        names = {"g_prompt": "general", "e_prompt.prompt": "expert", "e_prompt.prompt_key": "keys"}
        prefixes = ("g_prompt", "e_prompt.prompt")
        return {
            names.get(name, name): value.flatten(-2) if name in prefixes else value for name, value in arrays.items()
        }

    def features(self) -> None:
        """Compare queries, similarities and prompted features, of images alone and of a mixed batch."""
        images, learner = self.test_rows(), self.learner
        frozen = learner.frozen_forward(images)
        self.file.compare("features", frozen[1], "features/query")
        similarity = torch.nn.functional.normalize(frozen[1]) @ torch.nn.functional.normalize(learner.keys).T
        self.file.compare("features", similarity, "features/similarity")
        alone = torch.cat([learner.extract_features(image[None])[0] for image in images])
        self.file.compare("features", alone, "features/prompted")
        self.file.compare("features", learner.training_features(frozen, ())[0], "features/prompted_batch")

    def scores(self, task: Task) -> None:
        """Compare the scores of each image alone, and those of the batches of each task."""
        super().scores(task)
        images, key = self.known_test_images(task), f"{self.variant}task{task.index}"
        queries = self.learner.backbone_forward(images)[1]
        self.file.compare("selected", self.learner.choose(queries)[:, None], f"{key}/selected_test")
        voting = self.learner.settings.model_copy(update={"batch_vote": self.meta["batchwise_prompt"]})
        own, self.learner.settings = self.learner.settings, voting
        batches = self.test_batches(task)
        scores = torch.cat([self.learner.scores(images[rows]) for rows in batches])
        self.file.compare("scores_batchwise", scores, f"{key}/scores_batchwise")
        chosen = torch.cat([self.learner.choose(queries[rows]) for rows in batches])
        self.file.compare("selected", chosen[:, None], f"{key}/selected_batchwise")
        self.learner.settings = own


REPLAY = DualPromptReplay
