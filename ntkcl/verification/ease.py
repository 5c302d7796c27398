"""Replay of EASE, recorded with the official code."""

from typing import Any, ClassVar

from torch import Tensor

from ntkcl.tasks import Task
from ntkcl.verification.replay import Replay


def adapter_settings(meta: dict[str, Any]) -> dict[str, Any]:
    """The settings of adapters for those of a file."""
    names = {"adapter_width": "adapter_rank", "adapter_scale": "adapter_scale", "adapter_dropout": "adapter_dropout"}
    return {ours: meta[theirs] for ours, theirs in names.items()}


def sgd(meta: dict[str, Any]) -> dict[str, Any]:
    """The settings of SGD with a cosine schedule for those of a file."""
    return {"schedule": "cosine"} | {name: meta[name] for name in ("momentum", "weight_decay", "min_lr")}


class EASEReplay(Replay):
    """EASE: the adapters of a task begin with those of the file."""

    method = "ease"
    names: ClassVar = {
        r".*\.(\d+)\.(down|up)_proj\.(weight|bias)": r"adapter_sets.\1.\2.\3",
        r"proxy_fc\.weight": "proxies.weight",
        r"proxy_fc\.sigma": "proxies.scale",
    }

    def settings(self) -> dict[str, Any]:
        """Settings of adapters and prototypes."""
        synthesis = "all" if self.meta["recalc_sim"] else "newest"
        return adapter_settings(self.meta) | {"other_subspaces": self.meta["alpha"], "synthesis": synthesis}

    def training(self) -> dict[str, Any]:
        """SGD with a cosine schedule."""
        return super().training() | sgd(self.meta)

    def own(self, arrays: dict[str, Tensor]) -> dict[str, Tensor]:
        """Names of adapters in the file do not have the number of the task."""
        own = super().own(arrays)
        return {name.replace("adapter_sets.", f"adapter_sets.{self.task.index}."): each for name, each in own.items()}

    def features(self) -> None:
        """Compare the plain feature: new adapters add nothing."""
        self.file.compare("features", self.learner.extract_features(self.test_rows())[0], "features/frozen")

    def kept(self, task: Task) -> None:
        """Compare the prototypes, and features in all subspaces."""
        self.file.compare("kept", self.learner.prototypes, f"task{task.index}/kept/fc.weight")
        features = self.learner.extract_features(self.test_rows())[0]
        self.file.compare("kept", features, f"task{task.index}/kept/features")


REPLAY = EASEReplay
