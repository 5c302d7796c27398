"""Replay of VPT-NSP, recorded with the official code."""

from typing import Any, ClassVar

import torch
from torch import Tensor

from ntkcl.peft.null_space import null_space_map, null_space_start
from ntkcl.tasks import Task
from ntkcl.verification.replay import Replay
from ntkcl.verification.trajectory import Trajectory


class VPTNSPReplay(Replay):
    """VPT-NSP: covariances are means over batches, as released."""

    method = "vpt_nsp"
    columns: ClassVar = {"prompt_mean_l1": "prompt_mean", "prompt_std_l1": "prompt_std"}
    not_compared = (r"task\d+/start/head_is_new", r"threshold/singular_values\.\d+")

    def __init__(self, trajectory: Trajectory, variant: str = "") -> None:
        super().__init__(trajectory, variant)
        self.eval_batch_size = self.meta["statistics_batch_size"]

    def settings(self) -> dict[str, Any]:
        """Settings of prompts and maps."""
        return {
            "prompts": self.meta["prompt_len"],
            "temperature": self.meta["temperature"],
            "feature_share": self.meta["eta_feature"],
            "token_share": self.meta["eta_token"],
            "statistics_weight": self.meta["layer_norm_loss_weight"],
            "statistics_batch": self.meta["statistics_batch_size"],
        }

    def training(self) -> dict[str, Any]:
        """Adam with a rate in steps."""
        schedule = {"schedule": "multistep", "milestones": self.meta["milestones"], "decay": self.meta["decay_rate"]}
        return super().training() | schedule | {"optimizer": "adam", "weight_decay": self.meta["weight_decay"]}

    def own(self, arrays: dict[str, Tensor]) -> dict[str, Tensor]:
        """A block's prompts have a dimension of one image in the file, and the task's head no number."""
        return {
            name.replace("head.", f"heads.{self.task.index}."): value.squeeze(0) if ".prompt" in name else value
            for name, value in arrays.items()
            if name != "head_is_new"
        }

    def tensors(self) -> dict[str, Tensor]:
        """The prompts of each block by themselves."""
        prompts = {f"blocks.{index}.prompt.prompt": each for index, each in enumerate(self.learner.prompts.detach())}
        return self.learner.own_tensors() | prompts

    def features(self) -> None:
        """Compare plain and prompted features, and the rule for the null space on given spectra."""
        images = self.test_rows()
        self.file.compare(
            "features",
            self.learner.backbone.forward_head(self.learner.backbone.forward_features(images), pre_logits=True),
            "features/frozen",
        )
        self.file.compare("features", self.learner.extract_features(images)[0], "features/prompted")
        for name, start in self.file.group("threshold/start.").items():
            found = null_space_start(self.file[f"threshold/singular_values.{name}"])
            self.file.compare("null space", torch.tensor(found), f"threshold/start.{name}", start)

    def kept(self, task: Task) -> None:
        """Compare covariances, maps, and dimensions of null spaces; none are made after the last task."""
        if task.is_last:
            return
        pairs = {"feature": self.learner.feature_covariances, "token": self.learner.token_covariances}
        for kind, covariances in pairs.items():
            for index, covariance in enumerate(covariances):
                key = f"task{task.index}/kept/{{}}_{kind}.{index}"
                found, size = null_space_map(covariance, self.meta[f"eta_{kind}"])
                self.file.compare("kept", covariance, key.format("covariance"))
                self.file.compare("kept", found, key.format("projection"))
                self.file.compare("null space", torch.tensor(size), key.format("null_size"))


REPLAY = VPTNSPReplay
