"""Replay of RanPAC, recorded with the official code."""

from typing import Any, ClassVar

import torch

from ntkcl.tasks import Task
from ntkcl.verification.ease import adapter_settings, sgd
from ntkcl.verification.replay import Replay

FIRST_TASK_NAMES = {  # of proxies and adapters
    r"fc\.weight": "proxies.weight",
    r"fc\.sigma": "proxies.scale",
    r".*\.(\d+)\.adaptmlp\.(down|up)_proj\.(weight|bias)": r"module.\1.\2.\3",
}
BLOCK = r"convnet\.blocks\.(\d+)\."
NAMES = FIRST_TASK_NAMES | {
    "W_rand": "projection",
    r"convnet\.ssf_(scale|shift)_1": r"module.norm.\1",
    r"convnet\.patch_embed\.ssf_(scale|shift)_1": r"module.patches.\1",
}
for place, parts in {"": ("norm1", "norm2"), r"attn\.": ("qkv", "proj"), r"mlp\.": ("fc1", "fc2")}.items():
    for number, part in enumerate(parts, 1):
        NAMES[rf"{BLOCK}{place}ssf_(scale|shift)_{number}"] = rf"module.blocks.\1.{part}.\2"


class RanPACReplay(Replay):
    """RanPAC: the projection and the order of the images for the choice of the ridge come from the file."""

    method = "ranpac"
    names: ClassVar = NAMES
    not_compared = (r"task\d+/statistics",)

    def settings(self) -> dict[str, Any]:
        """Settings of the module, projection and ridge."""
        adapter = self.meta["petl"] == "adapter"
        names = {"projection": "projection", "ridges": "ridges", "fit_share": "ridge_fit_share"}
        own = {ours: self.meta[theirs] for ours, theirs in names.items()}
        if not adapter:
            return own | {"module": "scale_shift"}
        return own | adapter_settings(self.meta)

    def training(self) -> dict[str, Any]:
        """SGD with a cosine schedule."""
        return super().training() | sgd(self.meta)

    def start(self, task: Task) -> None:
        """Load the start of the module, and let the learner take the order of the file."""
        super().start(task)
        rows = self.file[f"task{task.index}/statistics"].flatten()
        rows = rows[rows >= 0]
        positions = torch.empty(len(self.train_labels), dtype=torch.long)
        own = (self.train_labels >= task.first_class) & (self.train_labels < task.classes_learned)
        positions[own] = torch.arange(int(own.sum()))
        self.learner.order = lambda count: positions[rows]

    def features(self) -> None:
        """Compare the plain feature."""
        vit, images = self.learner.backbone, self.test_rows()
        self.file.compare("features", vit.forward_head(vit.forward_features(images), True), "features/frozen")

    def kept(self, task: Task) -> None:
        """Compare sums, head, errors of the ridges and features. Tiny ridges' errors depend on the solver."""
        learner, kept = self.learner, f"task{task.index}/kept/"
        self.file.compare("kept", learner.gram, f"{kept}G")
        self.file.compare("kept", learner.class_sums, f"{kept}Q", self.file[f"{kept}Q"][:, : task.classes_learned])
        self.file.compare("kept", learner.head, f"{kept}fc.weight")
        self.file.compare("kept", learner.extract_features(self.test_rows())[0], f"{kept}features")
        reliable = torch.tensor(learner.ridges) >= self.meta["ridge_losses_reliable_from"]
        key = f"{kept}ridge_losses"
        # theirs is a mean over the columns of all classes, also of those that the task does not have
        ours = learner.ridge_losses * task.size / self.file[f"{kept}Q"].shape[1]
        self.file.compare("ridge losses", ours[reliable], key, self.file[key][-len(learner.ridges) :][reliable])
        ridge = learner.ridges[int(learner.ridge_losses.nan_to_num(float("inf")).argmin())]
        self.file.compare("ridge", torch.tensor(ridge), f"{kept}ridge")


REPLAY = RanPACReplay
