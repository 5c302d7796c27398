"""Runs: (dataset, backbone, variant, seed), and the settings that follow from these four names."""

from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from ntkcl.backbones.digest import backbone_digest
from ntkcl.data.sources.common.options import dataset_digest
from ntkcl.errors import UserError
from ntkcl.registry import METHODS
from ntkcl.settings.digest import digest_of
from ntkcl.settings.files import PARAMS, load_backbone, load_dataset, load_method
from ntkcl.settings.models import Backbone, Dataset, Method, Model, Overrides, Preprocessing, Training
from ntkcl.settings.studies import Study
from ntkcl.settings.validation import validated
from ntkcl.settings.variants import check_spelling, parts_of, settings_in_name
from ntkcl.tasks import Task, tasks_of


@dataclass(frozen=True)
class Run:
    """A run: (dataset, backbone, variant, seed), and the settings that follow from these four names.

    Its files are in `folder`. `digest` identifies its settings and is stored in every state.
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
    preprocessing: Preprocessing
    digest: str

    @property
    def name(self) -> str:
        """Name of the run, as in paths."""
        return f"{self.dataset_name}/{self.backbone_name}/{self.variant}/seed{self.seed}"

    @property
    def folder(self) -> Path:
        """Folder of the run's files."""
        return run_folder(self.dataset_name, self.backbone_name, self.variant, self.seed)

    @property
    def tasks(self) -> list[Task]:
        """Tasks of the run: those of the dataset, or a single task with all classes."""
        joint = self.method.protocol == "joint"
        return tasks_of([self.dataset.classes] if joint else self.dataset.task_sizes)

    @property
    def class_order_seed(self) -> int:
        """Seed of the class order: the run's seed unless the dataset fixes one."""
        fixed = self.dataset.class_order_seed
        return self.seed if fixed is None else fixed

    def state_path(self, task: int) -> Path:
        """Return the path of the state after task `task`."""
        return self.folder / f"task{task}" / "state.safetensors"

    @property
    def label(self) -> str:
        """Name in tables."""
        return variant_label(self.method, self.variant)

    def describe(self) -> dict[str, Any]:
        """Return all settings in plain types, for logs and metrics."""
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
            "preprocessing": self.preprocessing.model_dump(mode="json"),
            "dataset_settings": self.dataset.model_dump(mode="json"),
            "backbone_settings": self.backbone.model_dump(mode="json"),
            "class_order_seed": self.class_order_seed,
        }


def run_folder(dataset: str, backbone: str, variant: str, seed: int) -> Path:
    """Return the folder of a run's files."""
    return Path("runs") / dataset / backbone / variant / f"seed{seed}"


def variant_label(method: Method, variant: str) -> str:
    """Return the name in tables of `variant`, which is the method's name or `method/name`."""
    change = variant_change(method, variant)
    return f"{method.label} ({change})" if change else method.label


def variant_change(method: Method, variant: str) -> str:
    """Return the label of the change that `variant` makes; an empty text for the method itself."""
    _, _, name = variant.partition("/")
    known = method.variants.get(name)
    return (known.label if known else "") or ", ".join(parts_of(name)).replace("_", " ")


@cache
def _resolve_variant(
    dataset_name: str, backbone_name: str, variant: str
) -> tuple[Method, Model, Training, Preprocessing]:
    """Return the method of a variant, and its settings for a dataset and backbone: learner, training, preprocessing."""
    name, slash, variant_name = variant.partition("/")
    method = load_method(name)
    where = f"{PARAMS}/methods/{name}.yaml"
    model = METHODS.load(method.learner).Settings
    models = {"settings": model, "training": Training, "preprocessing": Preprocessing}
    layers = [method, method.datasets.get(dataset_name, method.other_datasets)]
    if slash:
        layers.append(_variant(method, variant_name, models, f"variant '{variant}' (see {where})"))
    merged: dict[str, dict[str, Any]] = {section: {} for section in models}
    merged["preprocessing"] |= load_backbone(backbone_name).preprocessing | load_dataset(dataset_name).preprocessing
    for layer in layers:
        for section in models:
            merged[section] |= getattr(layer, section)
    where += f" for {variant} on {dataset_name}"
    files = {"preprocessing": f", with {dataset_name}.yaml and backbones.yaml"}
    valid = {
        section: validated(kind, merged[section], f"{where}{files.get(section, '')}, {section}")
        for section, kind in models.items()
    }
    if slash and variant_name not in method.variants:
        for section, settings in valid.items():
            check_spelling(getattr(layers[-1], section), settings, f"variant '{variant}'")
    return method, valid["settings"], valid["training"], valid["preprocessing"]


def _variant(method: Method, name: str, models: dict[str, type[Model]], where: str) -> Overrides:
    """Return the overrides of a variant: as the method's YAML defines them, or as its name spells them."""
    try:
        spelled = Overrides(**settings_in_name(name, models, where))
    except UserError as error:
        if name in method.variants:
            return method.variants[name]
        if close := get_close_matches(name, method.variants, n=1, cutoff=0.6):
            raise UserError(f"{where} is not defined; did you mean '{close[0]}'?") from error
        raise
    if (named := method.variants.get(name)) and any(getattr(named, s) != getattr(spelled, s) for s in models):
        raise UserError(f"{where} has other settings than its name says; rename it, or correct them")
    return spelled


def resolve(dataset_name: str, backbone_name: str, variant: str, seed: int) -> Run:
    """Return the run (dataset, backbone, variant, seed), with all its settings validated.

    Raises:
        UserError: a name is unknown or a setting is wrong.
    """
    dataset, backbone = load_dataset(dataset_name), load_backbone(backbone_name)
    method, settings, training, preprocessing = _resolve_variant(dataset_name, backbone_name, variant)
    digest = digest_of(
        dataset_digest(dataset_name),
        dataset.task_sizes,
        dataset.class_order_seed,
        backbone_digest(backbone_name),
        method.learner,
        method.protocol,
        settings,
        training,
        preprocessing,
        seed,
    )
    return Run(
        dataset_name, backbone_name, variant, seed, dataset, backbone, method, settings, training, preprocessing, digest
    )


def runs_of(study: Study) -> list[Run]:
    """Return all runs of a study, in the order of its lists."""
    return [
        resolve(dataset, backbone, variant, seed)
        for dataset in study.datasets
        for backbone in study.backbones
        for variant in study.every_variant
        for seed in study.seeds
    ]
