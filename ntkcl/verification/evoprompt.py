"""Replay of EvoPrompt, recorded with the official code."""

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor

from ntkcl.tasks import Task
from ntkcl.verification.replay import Replay

MAPS = {"inner": "block.0", "outer": "block.2"}  # of the memory of a block


class EvoPromptReplay(Replay):
    """EvoPrompt: a file has the memory of each block by itself."""

    method = "evoprompt"
    columns: ClassVar = {"ce": "cross_entropy", "grad_norm_before_clip": "grad_norm"}

    def settings(self) -> dict[str, Any]:
        """Settings of the memory."""
        return {
            "hidden": self.meta["hidden"],
            "prompt_length": self.meta["prompt_length"],
            "fusion": self.meta["fusion_alpha"],
            "group_width": self.meta["vit"]["embed_dim"] // self.meta["composition_groups"],
            "group_temperature": self.meta["composition_temperature"],
        }

    def training(self) -> dict[str, Any]:
        """Adam with clipped gradients."""
        clip, decay = self.meta["clip_grad_norm"], self.meta["weight_decay"]
        return super().training() | {"optimizer": "adam", "weight_decay": decay, "clip_norm": clip}

    def own(self, arrays: dict[str, Tensor]) -> dict[str, Tensor]:
        """The head is called classifier in the file."""
        return {name.replace("classifier.", "head."): value for name, value in arrays.items()}

    def tensors(self) -> dict[str, Tensor]:
        """The memory of each block by itself."""
        return self.learner.own_tensors() | _by_block(
            {"inner": self.learner.inner.detach(), "outer": self.learner.outer.detach()}
        )

    def begun(self, task: Task) -> None:
        """Compare the head's rows of the task's classes, which are made from those of other classes."""
        for name, value in self.learner.head.state_dict().items():
            self.file.compare("start", value, f"task{task.index}/start/classifier.{name}")

    def features(self) -> None:
        """Compare plain and prompted features, queries and prompts."""
        images, learner = self.test_rows(), self.learner
        _, query = learner.backbone_forward(images)
        prompts = learner.nodes(query)[1].unflatten(2, (self.meta["prompt_length"], -1))
        self.file.compare("features", query, "features/query")
        self.file.compare("features", learner.plain_feature(images), "features/frozen")
        self.file.compare("features", prompts, "features/prompts")
        self.file.compare("features", learner.extract_features(images)[0], "features/prompted")

    def compare_trained(self, task: Task) -> None:
        """Compare also what the end of the task makes of them: activations, plans, aligned maps."""
        super().compare_trained(task)
        activations = dict(zip(MAPS, self.learner.activations(self._images(task)), strict=True))
        self._compare(task, "activation", activations)
        if not task.index:
            return
        blocks = [self.learner.aligned(block) for block in range(len(self.learner.inner))]
        plans, aligned = (
            {name: [each[part][index] for each in blocks] for index, name in enumerate(MAPS)} for part in (0, 1)
        )
        self._compare(task, "transport", plans)
        self._compare(task, "aligned", aligned)
        attributions = {
            name: [plan.T @ each for plan, each in zip(plans[name], activations[name], strict=True)] for name in MAPS
        }
        self._compare(task, "attribution", attributions)

    def kept(self, task: Task) -> None:
        """Compare prototypes, attributions and the memory used from now on."""
        learner = self.learner
        self.file.compare("kept", learner.class_prototypes, f"task{task.index}/kept/class_prototypes")
        attributions = {"inner": learner.inner_attribution, "outer": learner.outer_attribution}
        self._compare(task, "global_attribution", attributions)
        self._compare(task, "merged", {"inner": learner.inner, "outer": learner.outer})

    def _compare(self, task: Task, kind: str, ours: dict[str, Sequence[Tensor]]) -> None:
        for name, value in _by_block(ours).items():
            self.file.compare("kept", value, f"task{task.index}/kept/{kind}/{name}")


def _by_block(tensors: dict[str, Sequence[Tensor]]) -> dict[str, Tensor]:
    """What is kept for both maps of all blocks, by the names of the file."""
    return {
        f"prompt_memory.memory_list.{block}.{MAPS[name]}.weight": value
        for name, values in tensors.items()
        for block, value in enumerate(values)
    }


REPLAY = EvoPromptReplay
