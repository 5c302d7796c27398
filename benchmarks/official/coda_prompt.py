"""CODA-Prompt: github.com/GT-RIPL/CODA-Prompt at commit 6417d4f, with its settings for CIFAR-100."""

import importlib
import types
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

import timm.models
import torch
from official.checkout import Loader, as_on_a_gpu, copy_into, of_depth, use
from torch import Tensor

if TYPE_CHECKING:
    from turns import Setting, Turn

    from ntkcl.methods.learner import Learner

VARIANT = "coda_prompt"
SETTINGS = {  # experiments/cifar-100.sh and configs/cifar-100_prompt.yaml
    "prompt_param": [10, [100, 8, 0.0]],
    "model_type": "zoo",
    "model_name": "vit_pt_imnet",
    "optimizer": "Adam",
    "momentum": 0.9,
    "weight_decay": 0,
    "schedule_type": "cosine",
    "memory": 0,
    "DW": False,
    "top_k": 1,
    "overwrite": True,
}


class Official:
    """Their `CODAPrompt` with our components and head."""

    def __init__(self, checkout: Path, learner: "Learner", setting: "Setting") -> None:
        use(checkout, "learners/prompt", "GT-RIPL/CODA-Prompt")
        self.setting, vit = setting, learner.backbone
        classes = sum(task.size for task in setting.tasks)
        config = SETTINGS | {"out_dim": classes, "batch_size": setting.batch, "lr": setting.lr, "schedule": [20]}
        config |= {"tasks": [], "gpuid": [-1 if setting.device.type == "cpu" else setting.device.index or 0]}
        weights = vit.state_dict() | {"head.weight": None, "head.bias": None}  # they take the head off
        pretrained = types.SimpleNamespace(state_dict=lambda: weights)
        build, zoo = importlib.import_module("learners.prompt").CODAPrompt, importlib.import_module("models.zoo")
        depth = of_depth(zoo, "VisionTransformer", len(vit.blocks))
        with (
            as_on_a_gpu(setting.device),
            mock.patch.object(timm.models, "vit_base_patch16_224", lambda **_: pretrained),
            depth,
        ):
            self.learner = build(config)
            config["schedule"] = [1]  # epochs of a turn
            for task in setting.tasks[: setting.learned]:
                self.learner.last_valid_out_dim = self.learner.valid_out_dim
                self.learner.add_valid_output_dim(task.size)
        self.model, self.is_training = self.learner.model, False
        self.model.prompt.task_count, of_task = setting.learned - 1, learner.settings.pool_size // len(setting.tasks)
        for index in range(setting.learned):
            rows = slice(of_task * index, of_task * (index + 1))
            for layer, block in enumerate(learner.settings.blocks):
                for theirs, ours in (("k", learner.keys), ("a", learner.attention), ("p", learner.prompts)):
                    copy_into(getattr(self.model.prompt, f"e_{theirs}_{block}")[rows], ours[index][layer])
        copy_into(self.model.last.weight, learner.head.weight)
        copy_into(self.model.last.bias, learner.head.bias)

    @torch.no_grad()
    def outputs(self, images: Tensor) -> Tensor:
        """Scores of the classes learned."""
        with as_on_a_gpu(self.setting.device):
            return self.model.eval()(images)[:, : self.learner.valid_out_dim]

    def predict(self, turn: "Turn") -> None:
        """Their pass over a test loader; they keep what a backward pass would need."""
        with as_on_a_gpu(self.setting.device):
            self.learner.validation(Loader(turn, "xyt"))

    def train(self, turn: "Turn") -> None:
        """An epoch of their training loop; the optimizer keeps its state from turn to turn."""
        learner = self.learner
        with as_on_a_gpu(self.setting.device):
            if not self.is_training:
                learner.add_valid_output_dim(self.setting.tasks[self.setting.learned].size)
                self.model.prompt.task_count += 1
                learner.init_optimizer()
                learner.reset_optimizer, self.is_training = False, True
            learner.last_valid_out_dim = learner.valid_out_dim - self.setting.tasks[self.setting.learned].size
            learner.learn_batch(Loader(turn, "xyt"), None, "")
