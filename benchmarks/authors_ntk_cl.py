"""The authors' code, github.com/Programmergg/NTK-CL at commit 24de712, for `benchmarks/against.py`.

Their modules are imported from the checkout and run as they are, with the arguments that their `main.py` has for
CIFAR-100. What is put in their way from outside:

- `timm.create_model`, while they build their model, gives the ViT of the comparison instead of downloading one;
- `easydict` and `timm.models.layers` have stand-ins where they are not installed, or not any more;
- a ViT that has not 12 blocks (to try things) sets `depth`, which they pass as a constant.
"""

import contextlib
import importlib
import io
import sys
import types
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

import timm
import timm.layers
import torch
from torch import Tensor

from ntkcl.errors import UserError

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer
    from turns import Setting, Turn


class Authors:
    """Their `PromptLearner` in the middle of its tasks."""

    def __init__(self, vit: "VisionTransformer", setting: "Setting") -> None:
        self.setting, self.args = setting, _arguments(setting)
        prompt_vit = importlib.import_module("models.prompt_vit")
        learner = importlib.import_module("models.learner").PromptLearner
        with mock.patch.object(timm, "create_model", lambda *_, **__: vit), _depth(prompt_vit, len(vit.blocks)):
            self.learner = learner(self.args)
        self.network, self.optimizer = self.learner._network.to(setting.device), None
        for _ in range(setting.learned):
            self._begin_task()
            self.learner.after_task()
        torch.nn.init.normal_(self.network.fc.weight)

    @torch.no_grad()
    def features(self, images: Tensor) -> tuple[Tensor, ...]:
        """Channel and patch feature, (B, 2 d) each."""
        return self.network.eval().backbone(images, use_init_ptm=self.args.use_init_ptm)[:2]

    def predict(self, turn: "Turn") -> None:
        """Their pass over a test loader, with its decomposition of the prototypes and its loop over images."""
        self.learner._eval_results(_Loader(turn))

    def train(self, turn: "Turn") -> None:
        """An epoch of their training loop over the turn's batches, with all that they do in each step.

        The clock stops before what they do once an epoch. The optimizer keeps its state from turn to turn.
        """
        if self.optimizer is None:  # as in their `incremental_train` and `_train`
            self._begin_task()
            self.optimizer = self.learner.get_optimizer(lr=self.setting.lr)
        with contextlib.redirect_stderr(io.StringIO()):  # their progress bar
            self.learner._init_train(_Loader(turn), self.optimizer, None)

    def _begin_task(self) -> None:
        """What their `incremental_train` does before it asks for data."""
        learner = self.learner
        learner._cur_task += 1
        learner._total_classes = learner._known_classes + self.setting.tasks[learner._cur_task].size
        self.network.initialize_fc(learner._total_classes, learner._cur_task)


class _Loader:
    """A turn as their data loaders look: index, images, labels; labels are on the host, as theirs are."""

    def __init__(self, turn: "Turn") -> None:
        self.turn = turn

    def __len__(self) -> int:
        return len(self.turn)

    def __iter__(self) -> Iterator[tuple[None, Tensor, Tensor]]:
        for images, labels in self.turn:
            yield None, images, labels.cpu()


def build(checkout: Path, vit: "VisionTransformer", setting: "Setting") -> Authors:
    """Their learner with the weights of `vit`, after `setting.learned` tasks, with random prototypes.

    Raises:
        UserError: the checkout is not of their code.
    """
    if not (checkout / "models/prompt_vit.py").is_file():
        raise UserError(f"{checkout} has no models/prompt_vit.py; give a checkout of github.com/Programmergg/NTK-CL")
    sys.path.insert(0, str(checkout.resolve()))
    sys.dont_write_bytecode = True  # the checkout stays as it is
    try:
        importlib.import_module("easydict")
    except ModuleNotFoundError:  # they read attributes alone
        sys.modules["easydict"] = types.SimpleNamespace(EasyDict=types.SimpleNamespace)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        try:
            importlib.import_module("timm.models.layers")
        except ModuleNotFoundError:
            sys.modules["timm.models.layers"] = timm.layers
        return Authors(vit, setting)


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


def _depth(prompt_vit: types.ModuleType, depth: int) -> contextlib.AbstractContextManager:
    """Lets them build a ViT of another depth than 12."""
    if depth == 12:
        return contextlib.nullcontext()
    theirs = prompt_vit.VisionTransformer_Prompt
    return mock.patch.object(prompt_vit, "VisionTransformer_Prompt", lambda **given: theirs(**given | {"depth": depth}))
