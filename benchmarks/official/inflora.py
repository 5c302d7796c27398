"""InfLoRA: github.com/liangyanshuo/InfLoRA at commit e08b00e, with its settings for CIFAR-100."""

import importlib
import json
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

import torch
from official.checkout import Loader, as_on_a_gpu, copy_into, use
from torch import Tensor

if TYPE_CHECKING:
    from turns import Setting, Turn

    from ntkcl.methods.learner import Learner

VARIANT = "inflora"


class Official:
    """Their `InfLoRA` with our branches and heads. The new branch's A is random: how it is found is not timed."""

    def __init__(self, checkout: Path, learner: "Learner", setting: "Setting") -> None:
        use(checkout, "methods/inflora", "liangyanshuo/InfLoRA")
        self.setting, self.optimizer, vit = setting, None, learner.backbone
        args = json.loads((checkout / "configs/cifar100_inflora.json").read_text())
        args |= {"device": [setting.device], "total_sessions": len(setting.tasks), "init_cls": setting.tasks[0].size}
        args |= {"batch_size": setting.batch, "increment": setting.tasks[0].size}
        sinet, methods = importlib.import_module("models.sinet_inflora"), importlib.import_module("methods.inflora")

        def vit_with_branches(*_: object, pretrained: bool, **given: int) -> torch.nn.Module:
            theirs = sinet.ViT_lora_co(**given | {"depth": len(vit.blocks)}, num_classes=0)
            missing, unexpected = theirs.load_state_dict(vit.state_dict(), strict=False)
            assert not unexpected and all("lora" in name or "_grow" in name for name in missing)
            return theirs

        with mock.patch.object(sinet, "_create_vision_transformer", vit_with_branches):
            self.learner = methods.InfLoRA(args)
        self.learner.run_epoch, self.network = 1, self.learner._network.to(setting.device)
        old_key = torch.cat((learner.old_key, learner.key), 2).split(args["rank"], 2)
        old_value = torch.cat((learner.old_value, learner.value), 2).split(args["rank"], 2)
        for index, task in enumerate(setting.tasks[: setting.learned]):
            self._begin_task(task.size)
            self.learner.after_task()
            for layer, block in enumerate(self.network.image_encoder.blocks):
                down = learner.down.split(args["rank"], 1)[index][layer]
                copy_into(block.attn.lora_A_k[index].weight, down)
                copy_into(block.attn.lora_A_v[index].weight, down)
                copy_into(block.attn.lora_B_k[index].weight, old_key[index][layer])
                copy_into(block.attn.lora_B_v[index].weight, old_value[index][layer])
            copy_into(self.network.classifier_pool[index].weight, learner.heads[index].weight)
            copy_into(self.network.classifier_pool[index].bias, learner.heads[index].bias)

    @torch.no_grad()
    def outputs(self, images: Tensor) -> Tensor:
        """Scores of the classes learned."""
        return self.network.eval().interface(images)

    def predict(self, turn: "Turn") -> None:
        """Their pass over a test loader."""
        self.learner._eval_cnn(Loader(turn, "ixy"))

    def train(self, turn: "Turn") -> None:
        """An epoch of their training loop."""
        if self.optimizer is None:
            self._begin_task(self.setting.tasks[self.setting.learned].size)
            parts = [f"{name}.{self.setting.learned}" for name in ("classifier_pool", "lora_B_k", "lora_B_v")]
            for name, parameter in self.network.named_parameters():  # as their `_train` does
                parameter.requires_grad_(any(part in name for part in parts))
            self.optimizer = torch.optim.Adam(self.network.parameters(), lr=self.setting.lr, weight_decay=0.0)
        schedule = torch.optim.lr_scheduler.ConstantLR(self.optimizer, 1.0)
        with as_on_a_gpu(self.setting.device):
            self.learner.train_function(Loader(turn, "ixy"), None, self.optimizer, schedule)

    def _begin_task(self, size: int) -> None:
        """What their `incremental_train` does before it asks for data."""
        self.learner._cur_task += 1
        self.learner._total_classes = self.learner._known_classes + size
        self.network.update_fc(self.learner._total_classes)
