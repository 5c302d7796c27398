"""From the files under `params/` to the settings of one run."""

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from ntkcl.errors import UserError, nearest
from ntkcl.settings import Backbone, Dataset, Images, Method, Model, Study, Task, Training, tasks_of
from ntkcl.validation import validated

PARAMS = Path("params")


@dataclass(frozen=True)
class Run:
    """One run: (dataset, backbone, variant, seed), and the settings that follow from those four alone.

    Its files lie in `folder`; `digest` names its settings and stands in every state that it makes.
    """

    dataset_name: str
    backbone_name: str
    variant: str
    seed: int
    dataset: Dataset
    backbone: Backbone
    method: Method
    settings: Model
    training: Training
    images: Images
    digest: str

    @property
    def name(self) -> str:
        """The run in one word, as in paths."""
        return f"{self.dataset_name}/{self.backbone_name}/{self.variant}/seed{self.seed}"

    @property
    def folder(self) -> Path:
        """Where the run's files lie."""
        return run_folder(self.dataset_name, self.backbone_name, self.variant, self.seed)

    @property
    def tasks(self) -> list[Task]:
        """The tasks that this run learns: the dataset's, or a single one with all classes."""
        joint = self.method.protocol == "joint"
        return tasks_of([self.dataset.classes] if joint else self.dataset.task_sizes)

    @property
    def class_order_seed(self) -> int:
        """Seed of the class order: the run's own unless the dataset fixes one."""
        fixed = self.dataset.class_order_seed
        return self.seed if fixed is None else fixed

    def state_path(self, task: int) -> Path:
        """The state after task `task`."""
        return self.folder / f"task{task}" / "state.safetensors"

    @property
    def label(self) -> str:
        """Name in tables."""
        return variant_label(self.method, self.variant)

    def describe(self) -> dict[str, Any]:
        """All settings in plain types, for logs and metrics."""
        return {
            "dataset": self.dataset_name,
            "backbone": self.backbone_name,
            "variant": self.variant,
            "seed": self.seed,
            "label": self.label,
            "protocol": self.method.protocol,
            "learner": self.method.learner,
            "settings": self.settings.model_dump(mode="json"),
            "training": self.training.model_dump(mode="json"),
            "images": self.images.model_dump(mode="json"),
            "dataset_settings": self.dataset.model_dump(mode="json"),
            "backbone_settings": self.backbone.model_dump(mode="json"),
            "class_order_seed": self.class_order_seed,
        }


def run_folder(dataset: str, backbone: str, variant: str, seed: int) -> Path:
    """Where the files of a run lie."""
    return Path("runs") / dataset / backbone / variant / f"seed{seed}"


def variant_label(method: Method, variant: str) -> str:
    """Name in tables of `variant`, which is the method's name or `method/name`."""
    _, _, name = variant.partition("/")
    return f"{method.label} ({name.replace('_', ' ')})" if name else method.label


def digest_of(*parts: Any) -> str:
    """Twelve hexadecimal digits that name these settings.

    Values equal to their defaults are left out of models: a new setting whose default keeps the old behaviour
    must not make weeks of finished runs look outdated.
    """
    plain = [p.model_dump(mode="json", exclude_defaults=True) if isinstance(p, BaseModel) else p for p in parts]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:12]


def _read_yaml(path: Path, kind: str) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError as error:
        names = [file.stem for file in path.parent.glob("*.yaml")]
        raise UserError(f"unknown {kind} '{path.stem}': no {path}; {nearest(path.stem, names)}") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error


@cache
def load_study(name: str) -> Study:
    """The study `name`."""
    path = PARAMS / "studies" / f"{name}.yaml"
    return validated(Study, _read_yaml(path, "study"), str(path))


@cache
def load_dataset(name: str) -> Dataset:
    """The dataset `name`."""
    path = PARAMS / "datasets" / f"{name}.yaml"
    return validated(Dataset, _read_yaml(path, "dataset"), str(path))


@cache
def load_backbone(name: str) -> Backbone:
    """The backbone `name`."""
    path = PARAMS / "backbones.yaml"
    backbones = _read_yaml(path, "file")
    if name not in backbones:
        raise UserError(f"unknown backbone '{name}' (not in {path}); {nearest(name, backbones)}")
    return validated(Backbone, backbones[name], f"{path}, {name}")


@cache
def load_method(name: str) -> Method:
    """The method `name`."""
    path = PARAMS / "methods" / f"{name}.yaml"
    method = validated(Method, _read_yaml(path, "method"), str(path))
    known = {file.stem for file in (PARAMS / "datasets").glob("*.yaml")}
    for dataset in method.datasets.keys() - known:
        raise UserError(f"{path}: unknown dataset 'datasets.{dataset}'; {nearest(dataset, known)}")
    return method


@cache
def _resolve_variant(dataset_name: str, backbone_name: str, variant: str) -> tuple[Method, Model, Training, Images]:
    """The method of a variant, with the settings of learner, training and images for one dataset and backbone."""
    from ntkcl.methods import learner_class  # needs torch; not all who read settings do

    name, _, variant_name = variant.partition("/")
    method = load_method(name)
    where = f"{PARAMS}/methods/{name}.yaml"
    layers = [method, method.datasets.get(dataset_name)]
    if variant_name:
        if variant_name not in method.variants:
            hint = nearest(variant_name, method.variants)
            raise UserError(f"unknown variant '{variant_name}' of {name} (not in {where}); {hint}")
        layers.append(method.variants[variant_name])
    settings: dict[str, Any] = {}
    training: dict[str, Any] = {}
    images = load_backbone(backbone_name).images | load_dataset(dataset_name).images
    for layer in filter(None, layers):
        settings |= layer.settings
        training |= layer.training
        images |= layer.images
    where += f" for {variant} on {dataset_name}"
    model = learner_class(method.learner).Settings
    return (
        method,
        validated(model, settings, f"{where}, settings"),
        validated(Training, training, f"{where}, training"),
        validated(Images, images, f"{where}, with {dataset_name}.yaml and backbones.yaml, images"),
    )


@cache
def dataset_digest(name: str) -> str:
    """Names the content of a dataset's files.

    Raises:
        UserError: the source of the dataset is unknown, or one of its options is wrong.
    """
    from ntkcl.data.sources import options_of  # needs torch; not all who read settings do

    dataset = load_dataset(name)
    return digest_of(dataset.source, options_of(name, dataset), dataset.classes)


def report_digest(study: Study) -> str:
    """Names what tables and figures take from the settings: titles, labels, notes, and the published numbers."""
    methods = [load_method(variant.partition("/")[0]) for variant in study.variants]
    datasets = [load_dataset(name) for name in study.datasets]
    return digest_of(
        study,
        [[method.label, method.protocol] for method in methods],
        [[dataset.label, dataset.note, dataset.task_sizes] for dataset in datasets],
        [load_backbone(name).label for name in study.backbones],
        *([(PARAMS / study.published).read_text()] if study.published and (PARAMS / study.published).is_file() else []),
    )


def backbone_digest(name: str) -> str:
    """Names the weights of a backbone."""
    backbone = load_backbone(name)
    if backbone.weights:
        return digest_of(backbone.architecture, backbone.weights.timm)
    return digest_of(backbone.architecture, backbone.pretraining, dataset_digest(backbone.pretraining.dataset))


def resolve(dataset_name: str, backbone_name: str, variant: str, seed: int) -> Run:
    """The run (dataset, backbone, variant, seed) with all its settings validated.

    Raises:
        UserError: a name is unknown or a setting is wrong.
    """
    dataset, backbone = load_dataset(dataset_name), load_backbone(backbone_name)
    method, settings, training, images = _resolve_variant(dataset_name, backbone_name, variant)
    digest = digest_of(
        dataset_digest(dataset_name),
        dataset.task_sizes,
        dataset.class_order_seed,
        backbone_digest(backbone_name),
        method.learner,
        method.protocol,
        settings,
        training,
        images,
        seed,
    )
    return Run(
        dataset_name, backbone_name, variant, seed, dataset, backbone, method, settings, training, images, digest
    )


def runs_of(study: Study) -> list[Run]:
    """All runs of a study, in the order of its lists."""
    return [
        resolve(dataset, backbone, variant, seed)
        for dataset in study.datasets
        for backbone in study.backbones
        for variant in study.every_variant
        for seed in study.seeds
    ]
