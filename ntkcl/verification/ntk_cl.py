"""Replay of NTK-CL, recorded with the authors' code in a layout of its own."""

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from ntkcl.data.loading.batches import ArrayImages
from ntkcl.methods.ntk_cl.learner import NTKCL
from ntkcl.settings.models import Training
from ntkcl.tasks import Batches, Task, tasks_of
from ntkcl.training.loop import learn_task

# names in the file -> names here; the order matters
RENAMES = [
    (r"^pre_(channel|patch)_prompt_list", r"previous_adapters.\1"),
    (r"^(channel|patch)_prompt_list", r"current_adapters.\1"),
    (r"\.(down|up)_proj\.", r".\1."),
    (r"\.global_patch_prompt\.", ".token_map."),
    (r"\.prompt_norm\.", ".norm."),
]
TERMS = {"ce_channel", "ce_patch", "ce_hybrid", "info_nce", "dissimilarity", "regularization", "total", "lr"}
COLUMNS = {"l2_to_previous": "regularization"}
RECIPE = re.compile(
    r"0\.5 \* kron\(RandomState\(\[seed, 2, class\]\)\.rand\((\d+), (\d+), (\d+)\), ones\(\((\d+), (\d+)\)\)\) \+ "
    r"0\.5 \* RandomState\(\[seed, split, class\]\)\.rand\(n, (\d+), (\d+), (\d+)\)"
)


def verify_ntk_cl(arrays: dict[str, np.ndarray]) -> dict[str, float]:
    """Replay the trajectory with these `arrays`; the default type of torch must be float64.

    Returns:
        Largest relative error of each group (features, each loss term, trained weights, running mean, prototypes,
        scores). For an array it is the largest difference divided by the largest value, for a loss its difference
        divided by its value.

    Raises:
        Exception: one of `NOT_A_TRAJECTORY`, if it is none.
    """
    return NTKCLReplay.from_arrays(arrays).run()


@dataclass
class NTKCLReplay:
    """A trajectory file, the learner that replays it, and the errors so far."""

    arrays: dict[str, np.ndarray]
    meta: dict
    learner: NTKCL
    errors: dict[str, float]

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> "NTKCLReplay":
        """Build the learner and load all initial weights."""
        meta = json.loads(str(arrays["meta"]))
        learner = NTKCL(_backbone(arrays, meta), _settings(meta))
        weights = {_rename(name.removeprefix("init/")): a for name, a in arrays.items() if name.startswith("init/")}
        own = {name: torch.from_numpy(a) for name, a in weights.items() if name in learner.state()}
        missing = set(learner.state()) - set(own) - {"prototypes", "proxies.weight", "proxies.scale"}
        if missing:
            raise ValueError(f"no initial weight for {sorted(missing)[0]}")
        learner.load_state_dict(own, strict=False)
        return cls(arrays, meta, learner, defaultdict(float))

    def run(self) -> dict[str, float]:
        """Replay all tasks in order and return the largest error of each group."""
        self.learner.eval()
        with torch.no_grad():
            features = self.learner.named_features(self.learner.extract_features(self._images(1, 0)))
        for name, ours in (("channel", "channel"), ("patch", "patch"), ("mixed", "hybrid")):
            self._compare("features", features[ours], self.arrays[f"features/{name}"])
        for task in tasks_of(self.meta["sizes"]):
            self._task(task)
            for part in ("trained", "consolidated"):
                if not any(name.startswith(f"task{task.index}/{part}/") for name in self.arrays):
                    raise ValueError(f"no task{task.index}/{part} in the file")
        return dict(self.errors)

    def _task(self, task: Task) -> None:
        training = Training(
            lr=self.meta["lr"],
            epochs=self.meta["epochs"],
            batch_size=self.meta["batch_size"],
            momentum=self.meta["momentum"],
            weight_decay=self.meta["weight_decay"],
            min_lr=self.meta["min_lr"],
        )
        images = GivenOrder(self, task)
        add_task = self.learner.add_task

        def add_task_with_proxies(added: Task) -> None:
            add_task(added)
            self.learner.proxies.weight.data = torch.from_numpy(self.arrays[f"task{task.index}/proxy_init"])

        self.learner.add_task = add_task_with_proxies
        log = learn_task(self.learner, task, images, training)
        self.learner.add_task = add_task
        self._compare_losses(task, [dict(zip(log.columns, row, strict=True)) for row in log.rows])
        state = self.learner.state()
        for name, array in self.arrays.items():
            for group, prefix in (("trained weights", "trained"), ("running mean", "consolidated")):
                start = f"task{task.index}/{prefix}/"
                if name.startswith(start):
                    key = _rename(name.removeprefix(start))
                    self._compare("prototypes" if key == "prototypes" else group, state[key], array)
        with torch.no_grad():
            tests = torch.cat([self._images(1, c) for c in range(task.classes_learned)])
            features = self.learner.named_features(self.learner.extract_features(tests))
        for name, ours in (("channel", "channel"), ("patch", "patch"), ("mixed", "hybrid")):
            scores = self.learner.compare(features[ours])
            self._compare("scores", scores, self.arrays[f"task{task.index}/logits_{name}"])

    def _compare_losses(self, task: Task, rows: list[dict[str, float]]) -> None:
        columns = self.meta["step_columns"]
        given = [dict(zip(columns, row, strict=True)) for row in self.arrays["steps"]]
        given = [row for row in given if row["task"] == task.index]
        if len(given) != len(rows):
            raise ValueError(f"task {task.index} has {len(given)} steps in the file and {len(rows)} here")
        for ours, theirs in zip(rows, given, strict=True):
            for column, value in theirs.items():
                name = COLUMNS.get(column, column)
                if name in TERMS:
                    self._compare(f"loss {name}", torch.tensor(ours[name]), np.asarray(value))

    def _compare(self, group: str, ours: Tensor, theirs: np.ndarray) -> None:
        """Record the error of an array: relative, or absolute for an array of zeros."""
        if tuple(ours.shape) != theirs.shape:
            raise ValueError(f"{group}: shape {theirs.shape} in the file, {tuple(ours.shape)} here")
        size = np.abs(theirs).max(initial=0.0)
        error = float(np.abs(ours.detach().numpy() - theirs).max(initial=0.0) / (size or 1.0))
        self.errors[group] = max(self.errors[group], error) if error == error else float("inf")

    def _images(self, split: int, label: int) -> Tensor:
        """Compute images (n, C, H, W) of class `label` in float64 by the file's recipe; split 0 is train, 1 is test."""
        recipe = RECIPE.match(self.meta["image"])
        if not recipe:
            raise ValueError(f"unknown image recipe: {self.meta['image']}")
        numbers = [int(group) for group in recipe.groups()]
        coarse = np.random.RandomState([self.meta["seed"], 2, label]).rand(*numbers[:3])
        count = self.meta["train_per_class" if split == 0 else "test_per_class"]
        noise = np.random.RandomState([self.meta["seed"], split, label]).rand(count, *numbers[5:])
        return torch.from_numpy(0.5 * np.kron(coarse, np.ones(numbers[3:5])) + 0.5 * noise)


class GivenOrder:
    """A task's training images, one of each class in turn, in consecutive batches without shuffling."""

    def __init__(self, replay: NTKCLReplay, task: Task) -> None:
        classes = range(task.first_class, task.classes_learned)
        images = torch.stack([replay._images(0, label) for label in classes], dim=1).flatten(0, 1)
        labels = torch.tensor(list(classes)).repeat(replay.meta["train_per_class"])
        self._arrays = ArrayImages(images, labels, torch.device("cpu"))

    def train_batches(self, batch_size: int, skip: int = 0) -> Batches:
        """Pass over the images once in the given order."""
        return islice(self._arrays.eval_batches(batch_size), skip, None)

    def eval_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Pass over the images once in the given order."""
        return self._arrays.eval_batches()


def _rename(name: str) -> str:
    for pattern, replacement in RENAMES:
        name = re.sub(pattern, replacement, name)
    return name


def _settings(meta: dict) -> NTKCL.Settings:
    return NTKCL.Settings(
        adapter_width=meta["rank"],
        adapter_scale=meta["adapter_scale"],
        adapter_dropout=0.0,
        fusion_dropout=0.0,
        prompts=meta["prompt_tokens"],
        pretrained_part=meta["init_ptm"],
        info_nce_weight=meta["nce_temp"],
        info_nce_temperature=meta["mi_temperature"],
        dissimilarity_weight=meta["dis_temp"],
        dissimilarity_basis=meta["max_basis"],
        regularization_weight=meta["reg_temp"],
        inference_weights=(meta["beta"], meta["gamma"], meta["alpha"]),
    )


def _backbone(arrays: dict[str, np.ndarray], meta: dict) -> torch.nn.Module:
    """Build the trajectory's ViT with timm, which has query, key and value in one matrix."""
    from timm.models.vision_transformer import VisionTransformer

    init = {name.removeprefix("init/"): torch.from_numpy(a) for name, a in arrays.items() if name.startswith("init/")}
    dim, channels, patch, _ = init["patch_embed.proj.weight"].shape
    side = round((init["pos_embed"].shape[1] - 1) ** 0.5) * patch
    vit = VisionTransformer(
        img_size=side,
        patch_size=patch,
        in_chans=channels,
        num_classes=0,
        embed_dim=dim,
        depth=meta["depth"],
        num_heads=meta["heads"],
        mlp_ratio=init["blocks.0.fc1.weight"].shape[0] / dim,
    )
    weights = {}
    for name in vit.state_dict():
        if ".qkv." in name:
            weights[name] = torch.cat([init[name.replace("qkv", f"{part}_proj")] for part in "qkv"])
        else:
            weights[name] = init[name.replace(".mlp.", ".")]
    vit.load_state_dict(weights)
    return vit
