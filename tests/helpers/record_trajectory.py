"""Records a trajectory of our own learner in the format of `tests/trajectories/`, for other shapes than theirs."""

import json
from pathlib import Path

import numpy as np
import torch

from ntkcl.data.loading.batches import ArrayImages
from ntkcl.methods.ntk_cl.learner import NTKCL
from ntkcl.settings.models import Training
from ntkcl.tasks import tasks_of
from ntkcl.training.loop import learn_task

IMAGE = (
    "0.5 * kron(RandomState([seed, 2, class]).rand(3, 7, 7), ones((32, 32))) + "
    "0.5 * RandomState([seed, split, class]).rand(n, 3, 224, 224), numpy, split 0 train 1 test"
)
OURS_TO_THEIRS = [
    ("current_adapters.channel", "channel_prompt_list"),
    ("current_adapters.patch", "patch_prompt_list"),
    ("previous_adapters.channel", "pre_channel_prompt_list"),
    ("previous_adapters.patch", "pre_patch_prompt_list"),
    (".down.", ".down_proj."),
    (".up.", ".up_proj."),
    (".token_map.", ".global_patch_prompt."),
    ("backbone.", ""),
    (".mlp.", "."),
]


def images_of(seed: int, split: int, label: int, count: int) -> torch.Tensor:
    coarse = np.kron(np.random.RandomState([seed, 2, label]).rand(3, 7, 7), np.ones((32, 32)))
    return torch.from_numpy(0.5 * coarse + 0.5 * np.random.RandomState([seed, split, label]).rand(count, 3, 224, 224))


def theirs(name: str) -> str:
    if ".patch." in name:
        name = name.replace(".norm.", ".prompt_norm.")
    for ours, other in OURS_TO_THEIRS:
        name = name.replace(ours, other)
    return name


def record(path: Path, sizes: list[int], dim: int, depth: int, heads: int, rank: int, prompts: int, patch: int) -> Path:
    from timm.models.vision_transformer import VisionTransformer

    meta = dict(lr=0.05, momentum=0.9, weight_decay=5e-4, epochs=2, batch_size=12, min_lr=0.0, seed=3, heads=heads)
    meta |= dict(nce_temp=0.2, dis_temp=0.01, reg_temp=0.1, alpha=0.1, beta=1.0, gamma=0.3, mi_temperature=0.1)
    meta |= dict(train_per_class=3, test_per_class=2, adapter_scale=0.1, max_basis=40, dim=dim, depth=depth, rank=rank)
    meta |= dict(prompt_tokens=prompts, init_ptm=True, sizes=sizes, image=IMAGE, order="i-major")
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    try:
        shape = dict(img_size=224, patch_size=patch, embed_dim=dim, depth=depth, num_heads=heads, num_classes=0)
        learner = NTKCL(
            VisionTransformer(**shape),
            NTKCL.Settings(
                adapter_width=rank, adapter_dropout=0, fusion_dropout=0, prompts=prompts, pretrained_part=True,
                info_nce_weight=0.2, dissimilarity_weight=0.01, regularization_weight=0.1,
            ),
        )  # fmt: skip
        for name, parameter in learner.named_parameters():
            if not name.startswith(("backbone", "proxies")):
                torch.nn.init.normal_(parameter, std=0.2)
        np.savez(path, **_trajectory(learner.eval(), meta))
    finally:
        torch.set_default_dtype(torch.float32)
    return path


def _trajectory(learner: NTKCL, meta: dict) -> dict[str, np.ndarray]:
    arrays = {}
    for name, tensor in learner.state_dict().items():
        if ".qkv." in name:
            for part, piece in zip("qkv", tensor.chunk(3), strict=True):
                arrays["init/" + theirs(name).replace("qkv", f"{part}_proj")] = piece.numpy().copy()
        else:
            arrays["init/" + theirs(name)] = tensor.numpy().copy()
    _features(learner, images_of(meta["seed"], 1, 0, 2), "features/", arrays)
    meta["step_columns"] = ["lr", "total", "ce_channel", "ce_patch", "ce_hybrid", "info_nce", "dissimilarity"]
    meta["step_columns"] += ["l2_to_previous", "task"]
    steps = []
    for task in tasks_of(meta["sizes"]):
        classes = range(task.first_class, task.classes_learned)
        images = torch.stack([images_of(meta["seed"], 0, c, 3) for c in classes], dim=1).flatten(0, 1)
        given = ArrayImages(images, torch.tensor(list(classes)).repeat(3), torch.device("cpu"))
        object.__setattr__(given, "train_batches", lambda batch_size, skip, given=given: given.eval_batches(batch_size))
        grow, start = learner.add_task, f"task{task.index}/"

        def growing(task=task, grow=grow, start=start):
            grow(task)
            arrays[start + "proxy_init"] = learner.proxies.weight.detach().numpy().copy()

        learner.add_task = lambda task, growing=growing: growing()
        training = {name: meta[name] for name in ("lr", "momentum", "weight_decay", "epochs", "batch_size")}
        log = learn_task(learner, task, given, Training(**training))
        learner.add_task = grow
        steps += [[*row[2:], task.index] for row in log.rows]
        for name, tensor in learner.state().items():
            if name.startswith(("current", "fusion")):
                arrays[start + "trained/" + theirs(name)] = tensor.numpy().copy()
            elif not name.startswith("proxies"):
                arrays[start + "consolidated/" + theirs(name)] = tensor.numpy().copy()
        tests = torch.cat([images_of(meta["seed"], 1, c, 2) for c in range(task.classes_learned)])
        _features(learner, tests, start + "logits_", arrays, scores=True)
    return arrays | {"steps": np.array(steps), "meta": np.array(json.dumps(meta))}


@torch.no_grad()
def _features(learner: NTKCL, images: torch.Tensor, start: str, arrays: dict, scores: bool = False) -> None:
    for name, feature in learner.named_features(learner.extract_features(images)).items():
        value = learner.compare(feature) if scores else feature
        arrays[start + name.replace("hybrid", "mixed")] = value.numpy()
