"""Pre-training of a small backbone of our own, by classification with a linear head that is dropped afterwards."""

from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ntkcl.backbones.augmentation import augment
from ntkcl.backbones.files import build_vit, copy_shipped_weights, fingerprint, write_weights
from ntkcl.backbones.timm_vit import VisionTransformer
from ntkcl.data.prepared.arrays import ImageSet
from ntkcl.data.prepared.prepare import load_images
from ntkcl.errors import UserError
from ntkcl.progress import Report, shown
from ntkcl.settings.files import load_backbone
from ntkcl.settings.models import Pretraining
from ntkcl.storage.provenance import provenance


def pretrain(name: str, device: str | None = None, console: Console | None = None) -> float:
    """Pre-train the backbone `name` on its dataset and write its weights.

    Equal settings give equal tensors on one kind of CPU with one thread. If they equal the shipped weights, the file
    does too.

    Args:
        name: an entry of `params/backbones.yaml`.
        device: device to train on; by default a GPU if there is one.
        console: shows the progress; standard error by default.

    Returns:
        Accuracy on the held-out images of the dataset, in [0, 1].

    Raises:
        UserError: the dataset is missing, the loss is not finite, or the file cannot be written.
    """
    backbone = load_backbone(name)
    settings = backbone.pretraining
    target = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    images, labels, is_test, classes = _dataset(settings.dataset, target)
    generator = torch.Generator().manual_seed(settings.seed)
    model = build_vit(backbone.architecture)
    head = nn.Linear(backbone.architecture.embed_dim, classes)
    sample_weights(nn.ModuleList([model, head]), generator)
    model.to(target), head.to(target)
    with shown("pre-training", settings.steps, "steps", console) as report:
        _train(model, head, images[~is_test], labels[~is_test], settings, generator, report)
    accuracy = _accuracy(model.eval(), head, images[is_test], labels[is_test])
    _write(name, model, _origin(settings, accuracy, target))
    return accuracy


def sample_weights(model: nn.Module, generator: torch.Generator) -> None:
    """Sample all weights of `model` from `generator` with the standard deviation fan_in^-0.5; biases are zero.

    timm's own 0.02 suits widths of several hundred: a narrow network hardly learns with it.
    """
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            fan_in = parameter[0].numel() if "token" not in name and "embed" not in name else parameter.shape[-1]
            nn.init.normal_(parameter, std=fan_in**-0.5, generator=generator)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)


def _dataset(name: str, device: torch.device) -> tuple[Tensor, Tensor, Tensor, int]:
    """Images (N, C, H, W) in [0, 1], labels (N,), a mask (N,) of the held-out images, and the number of classes."""
    dataset = load_images(name)
    if not isinstance(dataset, ImageSet):
        raise UserError(
            f"pre-training needs small images in one array, not files as '{name}' has; choose another dataset"
        )
    names = dataset.manifest.class_names
    labels = torch.tensor([names.index(label) for label in dataset.manifest.classes])
    is_test = torch.tensor([split == "test" for split in dataset.manifest.splits])
    return dataset.images.to(device).float() / 255, labels.to(device), is_test.to(device), len(names)


def _train(
    model: VisionTransformer,
    head: nn.Module,
    images: Tensor,
    labels: Tensor,
    settings: Pretraining,
    generator: torch.Generator,
    report: Report,
) -> None:
    parameters = [*model.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=settings.lr, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
    for step in range(1, settings.steps + 1):
        # Sampled on the CPU for every device, so that all train on the same images.
        chosen = torch.randint(len(images), (settings.batch_size,), generator=generator).to(images.device)
        scores = head(model(augment(images[chosen], settings, generator)))
        loss = cross_entropy(scores, labels[chosen], label_smoothing=settings.label_smoothing)
        if not loss.isfinite():
            raise UserError(
                f"the loss of the pre-training is {loss.item()} at step {step} of {settings.steps}; "
                "lower pretraining.lr in params/backbones.yaml"
            )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        report(step, f"loss {loss.item():.2f}")


@torch.no_grad()
def _accuracy(model: VisionTransformer, head: nn.Module, images: Tensor, labels: Tensor) -> float:
    if len(images) == 0:
        return float("nan")
    return (head(model(images)).argmax(1) == labels).float().mean().item()


def _origin(settings: Pretraining, accuracy: float, device: torch.device) -> dict[str, Any]:
    """Metadata of the weights: recipe, accuracy, device, versions and commit."""
    return {
        "pretraining": settings.model_dump(mode="json"),
        "held_out_accuracy": round(accuracy, 6) if accuracy == accuracy else None,
        "provenance": provenance(device.type, "float32"),
    }


def _write(name: str, model: VisionTransformer, origin: dict[str, Any]) -> None:
    backbone = load_backbone(name)
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in model.state_dict().items()}
    if fingerprint(tensors, backbone.architecture.num_heads) == backbone.shipped:
        copy_shipped_weights(name)  # equal bytes of the file too: Snakemake reruns nothing
    else:
        write_weights(name, tensors, origin)
