"""L2P: its port to PyTorch, github.com/JH-LEE-KR/l2p-pytorch at commit f7bc994, with its settings for CIFAR-100."""

import argparse
import importlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy
import torch
from official.checkout import Loader, as_on_a_gpu, copy_into, use
from torch import Tensor, nn

if TYPE_CHECKING:
    from turns import Setting, Turn

    from ntkcl.methods.learner import Learner

VARIANT = "l2p/as_released"


class Official:
    """Their two models with our prompts, keys and head."""

    def __init__(self, checkout: Path, learner: "Learner", setting: "Setting") -> None:
        use(checkout, "engine", "JH-LEE-KR/l2p-pytorch")
        self.engine, self.setting, vit = importlib.import_module("engine"), setting, learner.backbone
        parser = argparse.ArgumentParser()
        importlib.import_module("configs.cifar100_l2p").get_args_parser(parser)
        self.args = args = parser.parse_args([])
        args.nb_classes, args.distributed, args.lr = sum(task.size for task in setting.tasks), False, setting.lr
        vits, classes = importlib.import_module("vision_transformer"), range(args.nb_classes)
        self.class_mask = [
            numpy.array(classes[task.first_class : task.first_class + task.size]) for task in setting.tasks
        ]

        def build(**given: object) -> nn.Module:
            theirs = vits.VisionTransformer(num_classes=args.nb_classes, depth=len(vit.blocks), **given)
            theirs.load_state_dict(vits.checkpoint_filter_fn(vit.state_dict(), theirs), strict=False)
            for name, parameter in theirs.named_parameters():
                parameter.requires_grad_(bool(given) and not name.startswith(tuple(args.freeze)))
            return theirs.to(setting.device)

        pool = {"prompt_pool": args.prompt_pool, "pool_size": args.size, "prompt_length": args.length}
        pool |= {"top_k": args.top_k, "prompt_key": args.prompt_key, "head_type": args.head_type}
        pool |= {"batchwise_prompt": args.batchwise_prompt, "embedding_key": args.embedding_key}
        self.original, self.model = build(), build(**pool)
        copy_into(self.model.prompt.prompt, learner.pool.prompts)
        copy_into(self.model.prompt.prompt_key, learner.pool.keys)
        copy_into(self.model.head.weight, learner.head.weight)
        copy_into(self.model.head.bias, learner.head.bias)
        self.optimizer = self.engine.create_optimizer(args, self.model)

    @torch.no_grad()
    def outputs(self, images: Tensor) -> Tensor:
        """Scores of the classes learned: theirs has all."""
        query = self.original.eval()(images)["pre_logits"]
        classes = self.setting.tasks[self.setting.learned].first_class
        return self.model.eval()(images, cls_features=query)["logits"][:, :classes]

    def predict(self, turn: "Turn") -> None:
        """Their pass over a test loader."""
        given = (self.setting.device, self.setting.learned, self.class_mask, self.args)
        with as_on_a_gpu(self.setting.device):
            self.engine.evaluate(self.model, self.original, Loader(turn, "xy"), *given)

    def train(self, turn: "Turn") -> None:
        """An epoch of their training loop."""
        criterion, loader = nn.CrossEntropyLoss(), Loader(turn, "xy")
        given = {"task_id": self.setting.learned, "class_mask": self.class_mask, "args": self.args}
        with as_on_a_gpu(self.setting.device):
            self.engine.train_one_epoch(
                self.model,
                self.original,
                criterion,
                loader,
                self.optimizer,
                self.setting.device,
                0,
                self.args.clip_grad,
                **given,
            )
