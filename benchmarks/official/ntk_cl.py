"""NTK-CL: the authors' code, github.com/Programmergg/NTK-CL at commit 24de712.

It has the arguments that their `main.py` has for CIFAR-100.
"""

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

import timm
import torch
from official.checkout import Loader, as_on_a_gpu, of_depth, use
from torch import Tensor

if TYPE_CHECKING:
    from turns import Setting, Turn

    from ntkcl.methods.learner import Learner

VARIANT = "ntk_cl"


class Official:
    """Their `PromptLearner` in the middle of its tasks, with random prototypes, new prompts and new adapters."""

    def __init__(self, checkout: Path, learner: "Learner", setting: "Setting") -> None:
        use(checkout, "models/prompt_vit", "Programmergg/NTK-CL")
        self.setting, self.args, vit = setting, _arguments(setting), learner.backbone
        prompt_vit = importlib.import_module("models.prompt_vit")
        build = importlib.import_module("models.learner").PromptLearner
        depth = of_depth(prompt_vit, "VisionTransformer_Prompt", len(vit.blocks))
        with mock.patch.object(timm, "create_model", lambda *_, **__: vit), depth:
            self.learner = build(self.args)
        self.network, self.optimizer = self.learner._network.to(setting.device), None
        for _ in range(setting.learned):
            self._begin_task()
            self.learner.after_task()
        torch.nn.init.normal_(self.network.fc.weight)

    @torch.no_grad()
    def outputs(self, images: Tensor) -> Tensor:
        """Channel and patch feature, (B, 4 d)."""
        return torch.cat(self.network.eval().backbone(images, use_init_ptm=self.args.use_init_ptm)[:2], 1)

    @staticmethod
    def outputs_of_ours(learner: "Learner", images: Tensor) -> Tensor:
        """The same of ours."""
        return torch.cat(learner.extract_features(images), 1)

    def predict(self, turn: "Turn") -> None:
        """Their pass over a test loader, with its decomposition of the prototypes and its loop over images."""
        self.learner._eval_results(Loader(turn, "ixy"))

    def train(self, turn: "Turn") -> None:
        """An epoch of their training loop over the turn's batches, with all that they do in each step.

        The clock stops before what they do once an epoch. The optimizer keeps its state from turn to turn.
        """
        if self.optimizer is None:  # as in their `incremental_train` and `_train`
            self._begin_task()
            self.optimizer = self.learner.get_optimizer(lr=self.setting.lr)
        with as_on_a_gpu(self.setting.device):
            self.learner._init_train(Loader(turn, "ixy"), self.optimizer, None)

    def _begin_task(self) -> None:
        """What their `incremental_train` does before it asks for data."""
        learner = self.learner
        learner._cur_task += 1
        learner._total_classes = learner._known_classes + self.setting.tasks[learner._cur_task].size
        self.network.initialize_fc(learner._total_classes, learner._cur_task)


def _arguments(setting: "Setting") -> object:
    """What their command line gives for CIFAR-100, and the device as their `_set_device` makes it."""
    with mock.patch.object(sys, "argv", ["main.py", "--dataset", "cifar224", "--batch_size", str(setting.batch)]):
        args = importlib.import_module("main").get_parser()
    args.device = [-1 if setting.device.type == "cpu" else setting.device.index or 0]
    importlib.import_module("trainer")._set_device(args)
    args.init_cls = args.increment = setting.tasks[0].size
    args.nb_tasks, args.nb_classes = len(setting.tasks), sum(task.size for task in setting.tasks)
    args.later_epochs = 1
    return args
