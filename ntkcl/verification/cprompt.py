"""Replay of CPrompt, recorded with the official code."""

from typing import Any, ClassVar

import torch
from torch import Tensor

from ntkcl.tasks import Task
from ntkcl.verification.replay import Replay


class CPromptReplay(Replay):
    """CPrompt: keys decay as released, and the tasks whose prompts images get come from the file."""

    method = "cprompt"
    names: ClassVar = {
        "keys": "keys",
        r"clas_w\.(\d+)\.(weight|bias)": r"heads.\1.\2",
        r"aux_cla\.(weight|bias)": r"auxiliary.\1",
        r"ts_prompts_1\.(\d+)\.weight": r"first_prompts.\1",
        r"ts_prompts_2\.(\d+)\.weight": r"second_prompts.\1",
    }

    def settings(self) -> dict[str, Any]:
        """Settings of prompts and losses."""
        return {
            "prompt_length": self.meta["prompt_length"],
            "second_block": self.meta["second_prompt_block"],
            "temperature": self.meta["tau"],
            "margin": self.meta["margin"],
            "consistency_weight": self.meta["alpha"],
            "keys": "all",
        }

    def training(self) -> dict[str, Any]:
        """SGD with a cosine."""
        names = ("momentum", "weight_decay", "min_lr")
        return super().training() | {"schedule": "cosine"} | {name: self.meta[name] for name in names}

    def test_rows(self) -> Tensor:
        """The test images whose features are in the file."""
        return self.test_images[self.meta["features_of"]]

    def draw(self, task: Task, step: int) -> tuple[Tensor, ...]:
        """The recorded tasks."""
        tasks = self.file[f"task{task.index}/drawn/prompt_task"][step]
        return (tasks[tasks >= 0],)

    def features(self) -> None:
        """Compare the query, before and after the final norm."""
        _, query = self.learner.backbone_forward(self.test_rows())
        self.file.compare("features", query, "features/query")
        self.file.compare("features", self.learner.backbone.norm(query), "features/frozen")

    def kept(self, task: Task) -> None:
        """Compare the tasks whose prompts the test images get."""
        queries = [self.learner.backbone_forward(image[None])[1] for image in self.known_test_images(task)]
        selected = self.learner.choose(torch.cat(queries))
        key = f"task{task.index}/kept/selected_task"
        self.file.compare("selected", selected + 1, key, self.file[key] + 1)


REPLAY = CPromptReplay
