"""EASE: github.com/sun-hailong/CVPR24-Ease at commit 6d67508, with its settings for CIFAR-100 and tasks of one size."""

import importlib
import json
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

import timm
import torch
from official.checkout import Loader, as_on_a_gpu, copy_into, of_depth, use
from torch import Tensor

if TYPE_CHECKING:
    from turns import Setting, Turn

    from ntkcl.methods.learner import Learner

VARIANT = "ease"


class Official:
    """Their `Learner` with our adapters and prototypes."""

    def __init__(self, checkout: Path, learner: "Learner", setting: "Setting") -> None:
        use(checkout, "models/ease", "sun-hailong/CVPR24-Ease")
        self.setting, self.optimizer = setting, None
        args = json.loads((checkout / "exps/ease_cifar.json").read_text())
        args |= {"device": [setting.device], "batch_size": setting.batch, "init_epochs": 1, "init_lr": setting.lr}
        args |= {"init_cls": setting.tasks[0].size, "increment": setting.tasks[1].size}
        vit, vit_ease = learner.backbone, importlib.import_module("backbone.vit_ease")
        depth = of_depth(vit_ease, "VisionTransformer", len(vit.blocks))
        build = importlib.import_module("models.ease").Learner
        with mock.patch.object(timm, "create_model", lambda *_, **__: vit), depth, as_on_a_gpu(setting.device):
            self.learner = build(args)
        self.network = self.learner._network.to(setting.device)
        for index, task in enumerate(setting.tasks[: setting.learned]):
            if index:
                self.network.eval()  # as after an evaluation: they keep a copy of the adapters, with dropout or not
                self.learner.after_task()
            self._begin_task(task.size)
            for theirs, ours in zip(self.network.backbone.cur_adapter, learner.adapter_sets[index], strict=True):
                for name in ("weight", "bias"):
                    copy_into(getattr(theirs.down_proj, name), getattr(ours.down, name))
                    copy_into(getattr(theirs.up_proj, name), getattr(ours.up, name))
        copy_into(self.network.fc.weight, learner.prototypes)

    @torch.no_grad()
    def outputs(self, images: Tensor) -> Tensor:
        """Scores of the classes learned."""
        return self.network.eval()(images, test=True)["logits"]

    def predict(self, turn: "Turn") -> None:
        """Their pass over a test loader."""
        self.learner._eval_cnn(Loader(turn, "ixy"))

    def train(self, turn: "Turn") -> None:
        """An epoch of their training loop."""
        if self.optimizer is None:
            self.learner.after_task()
            self._begin_task(self.setting.tasks[self.setting.learned].size)
            self.optimizer = self.learner.get_optimizer(self.setting.lr)
        with as_on_a_gpu(self.setting.device):
            self.learner._init_train(Loader(turn, "ixy"), None, self.optimizer, None)

    def _begin_task(self, size: int) -> None:
        """What their `incremental_train` does before it asks for data."""
        self.learner._cur_task += 1
        self.learner._total_classes = self.learner._known_classes + size
        self.network.update_fc(self.learner._total_classes)
