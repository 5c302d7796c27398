"""The models of everything a person can set: the one source of names, types and defaults.

A file under `params/` is one of these models in YAML. A method's own settings are a model in the method's file.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
Hexadecimal = Annotated[str, Field(pattern=r"^[0-9a-f]+$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Interpolation = Literal["nearest", "bilinear", "bicubic"]


class Model(BaseModel):
    """Base of all settings: an unknown key is an error, and nothing changes after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class Training(Model):
    """How the loop trains each task. The defaults are the published protocol for CIFAR-100."""

    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: Positive = 0.025
    first_lr: Positive | None = Field(None, description="learning rate of the first task; `lr` where not given")
    epochs: Annotated[int, Field(ge=0)] = 20
    first_epochs: Annotated[int, Field(ge=0)] | None = Field(None, description="epochs of the first task")
    batch_size: Count = 16
    momentum: Fraction = 0.9
    weight_decay: NotNegative = 5e-4
    schedule: Literal["cosine", "constant"] = Field("cosine", description="stepped once an epoch")
    min_lr: NotNegative = 0.0
    train_fraction: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="of each class's training images that are used, drawn by the run's seed; at least one image"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="of the ViT's products (autocast); auto: bfloat16 on a GPU that has it, else float32"
    )


class Preprocessing(Model):
    """How images are seen, in training and in testing. The defaults are the published protocol.

    Images come to a learner as squares of the backbone's size, in [0, 1], then minus `mean` over `std`.
    """

    train_crop: Literal["random", "center"] = Field("random", description="random: a box of random area and shape")
    scale: tuple[Positive, Positive] = Field((0.05, 1.0), description="share of the image in a random crop")
    ratio: tuple[Positive, Positive] = Field((3 / 4, 4 / 3), description="width by height of a random crop")
    train_interpolation: Interpolation = "bilinear"
    hflip: Annotated[float, Field(ge=0, le=1)] = Field(0.5, description="probability of a mirrored training image")
    crop_pct: Annotated[float, Field(gt=0, le=1)] = Field(
        224 / 256, description="side of the centre crop by the short side of the resized image"
    )
    interpolation: Interpolation = Field("bicubic", description="of the resizing before the centre crop")
    exif_rotation: bool = Field(True, description="turn photographs as their EXIF data say; the paper's code does not")
    mean: Annotated[tuple[float, ...], Field(min_length=1)] = Field((0.0,), description="one number, or one a channel")
    std: Annotated[tuple[Positive, ...], Field(min_length=1)] = (1.0,)


class File(Model):
    """A file that is fetched, or that a person puts into the folder of downloads.

    A file is accepted when it fits every checksum given here; the sha256 of one that has none is recorded in
    `params/checksums.json` when it first comes, and enforced from then on.
    """

    urls: list[str] = Field([], description="tried in order; {revision} is the one recorded, or main")
    by_hand: str = Field("", description="where a person finds it, if no program can fetch it")
    size: Count | None = Field(None, description="bytes, exactly")
    approx_bytes: Annotated[int, Field(ge=0)] | None = Field(None, description="bytes, roughly: to estimate costs")
    sha256: Hexadecimal | None = None
    md5: Hexadecimal | None = None
    git_blob: Hexadecimal | None = Field(None, description="the name that git gives to this content")

    @model_validator(mode="after")
    def _can_be_had(self) -> "File":
        if not self.urls and not self.by_hand:
            raise ValueError("say where the file is: give urls, or by_hand")
        return self


class Counts(Model):
    """How many images a dataset has, after its split."""

    train: Count
    test: Count
    exact: bool = Field(True, description="published and enforced; otherwise a number for estimates alone")


class Dataset(Model):
    """A dataset and how it is cut into tasks: `params/datasets/NAME.yaml`."""

    label: str = Field(description="name in tables")
    source: Name = Field(description="the module of `ntkcl.data` that makes it")
    options: dict[str, Any] = Field({}, description="settings of that module, checked by it")
    files: dict[str, File] = Field({}, description="what is fetched before, by file name")
    preprocessing: dict[str, Any] = Field({}, description="settings of `Preprocessing`; they override the backbone's")
    counts: Counts | None = None
    terms: str = Field("", description="licence or terms of use, as far as known")
    classes: Count
    first_task_classes: Count = Field(description="classes of the first task")
    classes_per_task: Count = Field(description="classes of each later task")
    class_order_seed: int | None = Field(None, description="numpy seed of the class order; the run's seed if not given")
    note: str = Field("", description="what a reader of the tables must know about it")

    @model_validator(mode="after")
    def _classes_fit_tasks(self) -> "Dataset":
        rest = self.classes - self.first_task_classes
        if rest < 0 or rest % self.classes_per_task:
            raise ValueError(
                f"{self.classes} classes do not fit a first task of {self.first_task_classes} and later tasks of "
                f"{self.classes_per_task}; change first_task_classes or classes_per_task"
            )
        return self

    @property
    def task_sizes(self) -> list[int]:
        """Classes of each task, in order."""
        return [self.first_task_classes] + [self.classes_per_task] * (
            (self.classes - self.first_task_classes) // self.classes_per_task
        )


class Architecture(Model):
    """A timm `VisionTransformer`, by the names of its constructor."""

    img_size: Count
    patch_size: Count
    in_chans: Count
    embed_dim: Count
    depth: Count
    num_heads: Count
    mlp_ratio: Positive


class Pretraining(Model):
    """How a backbone of our own is pre-trained, by classification of `dataset`."""

    dataset: Name
    seed: int = 0
    steps: Count = 2000
    batch_size: Count = 64
    lr: Positive = 3e-3
    weight_decay: NotNegative = 0.05
    label_smoothing: Fraction = 0.1
    rotation: NotNegative = Field(15.0, description="degrees, uniform in +-")
    shear: NotNegative = 0.25
    scale: tuple[Positive, Positive] = (0.75, 1.4)
    shift: NotNegative = Field(0.12, description="fraction of the image side, uniform in +-")
    elastic: NotNegative = Field(0.06, description="size of the smooth random displacement, in half image sides")
    stroke: Fraction = Field(0.5, description="probability that strokes are thickened or thinned by a pixel")
    blur: Fraction = Field(0.5, description="probability that an image is seen as if at a quarter of its resolution")
    noise: NotNegative = Field(0.15, description="largest standard deviation of the pixel noise")


class Weights(Model):
    """Published weights of a timm model."""

    timm: Annotated[str, Field(pattern=r"^[a-z0-9_]+\.[a-z0-9_]+$")] = Field(
        description="the full name with its tag: a bare name has meant several weights over time"
    )
    files: Annotated[dict[str, File], Field(min_length=1, max_length=1)] = Field(
        description="one safetensors file, by its name in the folder of downloads"
    )
    terms: str = ""


class Backbone(Model):
    """A frozen feature extractor: an entry of `params/backbones.yaml`.

    Its weights are published (`weights`), or pre-trained with the recipe `pretraining`: before, and shipped with the
    package (`shipped`), or else by the pipeline.
    """

    label: str
    architecture: Architecture
    preprocessing: dict[str, Any] = Field({}, description="settings of `Preprocessing` that it is used with")
    pretraining: Pretraining | None = Field(None, description="recipe of the pre-training")
    shipped: Sha256 | None = Field(None, description="fingerprint of the weights in the package, which are used")
    weights: Weights | None = Field(None, description="published weights")

    @model_validator(mode="after")
    def _has_one_origin(self) -> "Backbone":
        if (self.pretraining is None) == (self.weights is None):
            raise ValueError("give either pretraining or weights")
        if self.shipped and self.weights:
            raise ValueError("shipped weights need pretraining, their recipe; remove shipped or weights")
        return self

    @property
    def is_pretrained_here(self) -> bool:
        """Whether the pipeline pre-trains the weights."""
        return self.weights is None and self.shipped is None


class Overrides(Model):
    """Settings of a learner, of the training loop and of images, each checked by the model it belongs to."""

    settings: dict[str, Any] = {}
    training: dict[str, Any] = {}
    preprocessing: dict[str, Any] = {}


class Variant(Overrides):
    """A method with some settings overridden, under a name of its own."""

    label: str = Field("", description="what it changes, in tables; its name if not given")


class Ablations(Model):
    """More variants of a method: `params/methods/NAME/ablations.yaml`, without the key `variants`."""

    variants: dict[str, Variant]


class OtherDatasets(Overrides):
    """The settings of a method for datasets that it does not list."""

    note: str = Field("the defaults of the learner", description="what these settings are, for `ntkcl check`")


class Method(Overrides):
    """A method as you name it: `params/methods/NAME.yaml`.

    `settings` and `training` apply to every dataset. `datasets.NAME` overrides them for one dataset, `other_datasets`
    for those that are not listed, and a variant overrides both. Variants are in `variants`, or, with labels, in
    `params/methods/NAME/ablations.yaml`; those that are named after their settings need no entry.
    """

    label: str = Field(description="name in tables")
    learner: Name = Field(description="the learner in `ntkcl/methods/`")
    protocol: Literal["incremental", "joint"] = Field("incremental", description="joint: all classes in one task")
    datasets: dict[str, Overrides] = {}
    other_datasets: OtherDatasets = OtherDatasets()
    variants: dict[str, Variant] = {}
