"""The models of everything a person can set: the one source of names, types and defaults.

A file under `params/` is one of these models in YAML. A method's own settings are a model in the method's file.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
Hexadecimal = Annotated[str, Field(pattern=r"^[0-9a-f]+$")]
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
    share: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="of each class's training images that are used, drawn by the run's seed; at least one image"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="of the ViT's products (autocast); auto: bfloat16 on a GPU that has it, else float32"
    )


class Task(Model):
    """One task of a stream: it brings `size` classes, labels `first_class .. first_class + size - 1`.

    Labels are positions in the class order, so that the classes seen so far are always `0 .. classes_seen - 1`.
    """

    index: Annotated[int, Field(ge=0)]
    count: Count | None = Field(None, description="tasks of the stream, where that is known beforehand")
    first_class: Annotated[int, Field(ge=0)]
    size: Count

    @property
    def classes_seen(self) -> int:
        """Number of classes seen when this task has been learned."""
        return self.first_class + self.size

    @property
    def is_last(self) -> bool:
        """Whether it is known that no task follows."""
        return self.count is not None and self.index == self.count - 1


def tasks_of(sizes: list[int]) -> list[Task]:
    """The stream whose tasks bring `sizes` classes each."""
    firsts = [sum(sizes[:index]) for index in range(len(sizes))]
    return [
        Task(index=index, count=len(sizes), first_class=first, size=size)
        for index, (first, size) in enumerate(zip(firsts, sizes, strict=True))
    ]


class Images(Model):
    """How images are seen, in training and in testing. The defaults are the published protocol.

    Images come to a learner as squares of the backbone's size, in [0, 1], then minus `mean` over `std`.
    """

    train_crop: Literal["random", "centre"] = Field("random", description="random: a box of random area and shape")
    train_area: tuple[Positive, Positive] = Field((0.05, 1.0), description="share of the image in a random crop")
    train_ratio: tuple[Positive, Positive] = Field((3 / 4, 4 / 3), description="width by height of a random crop")
    train_interpolation: Interpolation = "bilinear"
    flip: Annotated[float, Field(ge=0, le=1)] = Field(0.5, description="probability of a mirrored training image")
    centre_crop: Annotated[float, Field(gt=0, le=1)] = Field(
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
    about: Annotated[int, Field(ge=0)] | None = Field(None, description="bytes, roughly: to estimate costs")
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
    images: dict[str, Any] = Field({}, description="settings of `Images`, laid over the backbone's")
    counts: Counts | None = None
    terms: str = Field("", description="licence or terms of use, as far as known")
    classes: Count
    first_task: Count = Field(description="classes of the first task")
    later_tasks: Count = Field(description="classes of each later task")
    class_order_seed: int | None = Field(None, description="numpy seed of the class order; the run's seed if not given")
    note: str = Field("", description="what a reader of the tables must know about it")

    @model_validator(mode="after")
    def _classes_fit_tasks(self) -> "Dataset":
        rest = self.classes - self.first_task
        if rest < 0 or rest % self.later_tasks:
            raise ValueError(
                f"{self.classes} classes do not fit a first task of {self.first_task} and later tasks of "
                f"{self.later_tasks}; change first_task or later_tasks"
            )
        return self

    @property
    def task_sizes(self) -> list[int]:
        """Classes of each task, in order."""
        return [self.first_task] + [self.later_tasks] * ((self.classes - self.first_task) // self.later_tasks)


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
    """A frozen feature extractor: an entry of `params/backbones.yaml`."""

    label: str
    architecture: Architecture
    images: dict[str, Any] = Field({}, description="settings of `Images` that it is used with")
    pretraining: Pretraining | None = Field(None, description="how it is trained here")
    weights: Weights | None = Field(None, description="where it comes from")

    @model_validator(mode="after")
    def _has_one_origin(self) -> "Backbone":
        if (self.pretraining is None) == (self.weights is None):
            raise ValueError("give either pretraining or weights")
        return self


class Overrides(Model):
    """Settings of a learner, of the training loop and of images, each checked by the model it belongs to."""

    settings: dict[str, Any] = {}
    training: dict[str, Any] = {}
    images: dict[str, Any] = {}


class Method(Overrides):
    """A method as users name it: `params/methods/NAME.yaml`.

    `settings` and `training` hold for every dataset, `datasets.NAME` lays over them for one dataset, and
    `variants.NAME` lays over both.
    """

    label: str = Field(description="name in tables")
    learner: Name = Field(description="the learner in `ntkcl.methods`")
    protocol: Literal["incremental", "joint"] = Field("incremental", description="joint: all classes in one task")
    datasets: dict[str, Overrides] = {}
    variants: dict[str, Overrides] = {}


class PublishedTable(Model):
    """A table of a paper: the methods in rows, the datasets in columns."""

    title: str
    backbone: Name
    datasets: Annotated[list[Name], Field(min_length=1)]


class Ablation(Model):
    """A group of rows of the ablation table: variants, each with the words for what it changes."""

    title: str
    variants: Annotated[dict[str, str], Field(min_length=1)]


class Sweep(Model):
    """A factor that variants change step by step."""

    title: str
    axis: str = Field(description="the words at the axis: what the values are")
    points: Annotated[dict[str, float], Field(min_length=2)] = Field(description="the value of each variant")


class Study(Model):
    """A list of runs and what is reported of them: `params/studies/NAME.yaml`. It changes no setting.

    `variants` stand in its tables; those of ablations and sweeps are compared with the `reference`.
    """

    title: str
    published: str = Field("", description="a CSV under params/ with a paper's numbers, to stand beside ours")
    tables: dict[Name, PublishedTable] = Field({}, description="the paper's tables, by number")
    datasets: Annotated[list[Name], Field(min_length=1)]
    backbones: Annotated[list[Name], Field(min_length=1)]
    variants: Annotated[list[str], Field(min_length=1)]
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    reference: str | None = Field(None, description="the variant that ablations and sweeps start from")
    ablations: list[Ablation] = []
    sweeps: dict[Name, Sweep] = {}
    kernels: list[str] = Field([], description="variants beside those of the sweeps whose kernels are measured")

    @property
    def every_variant(self) -> list[str]:
        """All variants that are run, each once."""
        parts = [self.variants, *(group.variants for group in self.ablations), self.measured]
        return list(dict.fromkeys(variant for part in parts for variant in part))

    @property
    def measured(self) -> list[str]:
        """The variants whose kernels are measured, each once."""
        parts = [self.kernels, *(sweep.points for sweep in self.sweeps.values())]
        return list(dict.fromkeys(variant for part in parts for variant in part))

    @field_validator("datasets", "backbones", "variants", "seeds")
    @classmethod
    def _each_once(cls, values: list) -> list:
        if twice := [value for value in values if values.count(value) > 1]:
            raise ValueError(f"{twice[0]} stands there twice; name each once")
        return values

    @model_validator(mode="after")
    def _has_reference(self) -> "Study":
        if (self.ablations or self.sweeps) and self.reference not in self.variants:
            raise ValueError(
                f"reference is {self.reference}: name one of variants, to compare ablations and sweeps with"
            )
        return self
