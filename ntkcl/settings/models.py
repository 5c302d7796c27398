"""The models of all settings: the one source of names, types and defaults. docs/settings.md is generated from them.

A file under `params/` is one of these models in YAML. A method's own settings are a model in the method's file.
"""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

if TYPE_CHECKING:
    from ntkcl.tasks import Task

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Block = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
Hexadecimal = Annotated[str, Field(pattern=r"^[0-9a-f]+$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Line = Annotated[str, AfterValidator(lambda text: " ".join(text.split()))]
"""A text of one line: each white space becomes one blank."""
Interpolation = Literal["nearest", "bilinear", "bicubic"]


class Model(BaseModel):
    """Base of all settings: an unknown key is an error, and values are fixed after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class Training(Model):
    """Settings of the training loop. The defaults are the published protocol for CIFAR-100."""

    optimizer: Literal["sgd", "adam", "adamw"] = Field(
        "sgd", description="optimizer; each task has a new one; adam adds weight decay to the gradient, as L2 does"
    )
    lr: Positive = Field(0.025, description="initial learning rate of each task")
    first_lr: Positive | None = Field(None, description="learning rate of the first task; `lr` by default")
    epochs: Annotated[int, Field(ge=0)] = Field(20, description="epochs of each task")
    first_epochs: Annotated[int, Field(ge=0)] | None = Field(
        None, description="epochs of the first task; `epochs` by default"
    )
    batch_size: Count = Field(16, description="images of a step, of all GPUs together")
    micro_batch: Count | None = Field(
        None,
        description="images that a step computes at once in each process, to save memory, with the loss of the whole "
        "batch; features are computed twice then, and dropout draws other numbers; the whole batch by default",
    )
    momentum: Fraction = Field(0.9, description="momentum of sgd")
    weight_decay: NotNegative = Field(5e-4, description="weight decay of the trained parameters")
    clip_norm: Positive | None = Field(
        None, description="largest norm of all gradients together; longer ones are scaled; the norm is logged"
    )
    schedule: Literal["cosine", "lagging_cosine", "multistep", "constant"] = Field(
        "cosine", description="learning rate schedule, one step per epoch"
    )
    min_lr: NotNegative = Field(0.0, description="learning rate at the end of the cosine schedule")
    milestones: tuple[Count, ...] = Field(
        (), description="epochs, counted from 1, from which on multistep has multiplied the rate by one more `decay`"
    )
    decay: Positive = Field(0.1, description="factor of multistep")
    train_fraction: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0,
        description="fraction of each class's training images in use, sampled by the run's seed; at least one image",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="precision of the ViT (autocast); auto: bfloat16 on a GPU that supports it, else float32"
    )

    def epochs_of(self, task: "Task") -> int:
        """Number of epochs of `task`."""
        return self.first_epochs if task.index == 0 and self.first_epochs is not None else self.epochs

    def lr_of(self, task: "Task") -> float:
        """The learning rate that the schedule of `task` starts from."""
        return self.first_lr if task.index == 0 and self.first_lr else self.lr


class Preprocessing(Model):
    """Settings of image preprocessing, in training and evaluation. The defaults are the published protocol.

    Images become squares of the backbone's size with values in [0, 1]. Then `mean` is subtracted, and they are divided
    by `std`.
    """

    train_crop: Literal["random", "center"] = Field(
        "random", description="training crop; random: a box of random area and aspect ratio; center: as in evaluation"
    )
    scale: tuple[Positive, Positive] = Field((0.05, 1.0), description="area of a random crop / area of the image")
    ratio: tuple[Positive, Positive] = Field((3 / 4, 4 / 3), description="width / height of a random crop")
    train_interpolation: Interpolation = Field("bilinear", description="interpolation of random crops")
    hflip: Annotated[float, Field(ge=0, le=1)] = Field(
        0.5, description="probability of a horizontal flip of a training image"
    )
    crop_pct: Annotated[float, Field(gt=0, le=1)] = Field(
        224 / 256, description="side of the center crop, divided by the short side of the resized image"
    )
    interpolation: Interpolation = Field("bicubic", description="interpolation of the resizing before the center crop")
    exif_rotation: bool = Field(True, description="rotate images by their EXIF data; the paper's code does not")
    mean: Annotated[tuple[float, ...], Field(min_length=1)] = Field(
        (0.0,), description="mean to subtract: one number, or one per channel"
    )
    std: Annotated[tuple[Positive, ...], Field(min_length=1)] = Field(
        (1.0,), description="standard deviation to divide by: one number, or one per channel"
    )


class File(Model):
    """A file to download, or that the user puts into the folder of downloads.

    A file is accepted if it fits every checksum given here. The sha256 of a file without one is recorded in
    `params/checksums.json` at its first use, and enforced from then on.
    """

    urls: list[str] = Field([], description="addresses, tried in order; {revision} is the recorded revision, or main")
    manual: str = Field("", description="where the user can get the file, if no program can download it")
    size: Count | None = Field(None, description="exact size in bytes")
    approx_bytes: Annotated[int, Field(ge=0)] | None = Field(
        None, description="approximate size in bytes, to estimate costs"
    )
    sha256: Hexadecimal | None = Field(None, description="sha256 of the content")
    md5: Hexadecimal | None = Field(None, description="md5 of the content")
    git_blob: Hexadecimal | None = Field(None, description="git's blob hash of the content")

    @model_validator(mode="after")
    def _has_origin(self) -> "File":
        if not self.urls and not self.manual:
            raise ValueError("say where the file is: give urls, or manual")
        return self


class Counts(Model):
    """Number of images of a dataset, after its split."""

    train: Count = Field(description="number of training images")
    test: Count = Field(description="number of test images")
    exact: bool = Field(True, description="true: published numbers, enforced; false: only for estimates")


class Dataset(Model):
    """A dataset and its division into tasks: `params/datasets/NAME.yaml`."""

    label: Line = Field(description="name in tables")
    source: Name = Field(description="module of `ntkcl/data/sources/` that creates the images")
    options: dict[str, Any] = Field({}, description="options of the source")
    files: dict[str, File] = Field({}, description="files to download, by name")
    preprocessing: dict[str, Any] = Field({}, description="settings of Preprocessing; override those of the backbone")
    counts: Counts | None = Field(None, description="number of images")
    terms: str = Field("", description="license or terms of use, as far as known")
    classes: Count = Field(description="number of classes")
    first_task_classes: Count = Field(description="number of classes of the first task")
    classes_per_task: Count = Field(description="number of classes of each later task")
    class_order_seed: int | None = Field(None, description="numpy seed of the class order; the run's seed by default")
    note: Line = Field("", description="note below the tables")

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
        """Number of classes of each task, in order."""
        return [self.first_task_classes] + [self.classes_per_task] * (
            (self.classes - self.first_task_classes) // self.classes_per_task
        )


class Architecture(Model):
    """A timm `VisionTransformer`, by the names of its constructor."""

    img_size: Count = Field(description="side of the square images, in pixels")
    patch_size: Count = Field(description="side of the square patches, in pixels")
    in_chans: Count = Field(description="channels of the images: 1 (grayscale) or 3 (color)")
    embed_dim: Count = Field(description="width of the tokens")
    depth: Count = Field(description="number of blocks")
    num_heads: Count = Field(description="attention heads of each block")
    mlp_ratio: Positive = Field(description="width of each block's MLP, divided by that of the tokens")


class Pretraining(Model):
    """Recipe of pre-training a backbone by classification of `dataset`, with AdamW and a cosine schedule."""

    dataset: Name = Field(description="dataset to classify")
    seed: int = Field(0, description="seed of weights, batches and augmentation")
    steps: Count = Field(2000, description="number of training steps")
    batch_size: Count = Field(64, description="images of a step")
    lr: Positive = Field(3e-3, description="initial learning rate")
    weight_decay: NotNegative = Field(0.05, description="weight decay of AdamW")
    label_smoothing: Fraction = Field(0.1, description="label smoothing of the cross entropy")
    rotation: NotNegative = Field(15.0, description="largest rotation in degrees, either way")
    shear: NotNegative = Field(0.25, description="largest shear, either way")
    scale: tuple[Positive, Positive] = Field((0.75, 1.4), description="smallest and largest scaling")
    shift: NotNegative = Field(0.12, description="largest shift, as a fraction of the image side, either way")
    elastic: NotNegative = Field(0.06, description="size of the smooth random displacement, in half image sides")
    stroke: Fraction = Field(0.5, description="probability that strokes become up to a pixel thicker or thinner")
    blur: Fraction = Field(0.5, description="probability of a blur, as by a quarter of the resolution")
    noise: NotNegative = Field(0.15, description="largest standard deviation of the pixel noise")


class Weights(Model):
    """Published weights of a timm model."""

    timm: Annotated[str, Field(pattern=r"^[a-z0-9_]+\.[a-z0-9_]+$")] = Field(
        description="full name in timm with its tag, since weights without a tag have changed over time"
    )
    files: Annotated[dict[str, File], Field(min_length=1, max_length=1)] = Field(
        description="one safetensors file, by its name in the folder of downloads"
    )
    terms: str = Field("", description="license or terms of use")


class Backbone(Model):
    """A frozen feature extractor: an entry of `params/backbones.yaml`.

    Its weights are published (`weights`), or pre-trained with the recipe `pretraining`: before, and shipped with the
    package (`shipped`), or else by the pipeline.
    """

    label: Line = Field(description="name in tables")
    architecture: Architecture = Field(description="shape of the ViT")
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
        """True if the pipeline pre-trains the weights."""
        return self.weights is None and self.shipped is None


class Overrides(Model):
    """Settings of a learner, of Training and of Preprocessing, each validated by its model."""

    settings: dict[str, Any] = Field({}, description="settings of the learner")
    training: dict[str, Any] = Field({}, description="settings of Training")
    preprocessing: dict[str, Any] = Field({}, description="settings of Preprocessing")


class Variant(Overrides):
    """A method with overrides, under a name of its own."""

    label: Line = Field("", description="label of the change in tables; the variant's name by default")


class Ablations(Model):
    """More variants of a method: `params/methods/NAME/ablations.yaml`, without the key `variants`."""

    variants: dict[str, Variant] = Field(description="variants by name")


class OtherDatasets(Overrides):
    """Settings of a method for the datasets that it does not list."""

    note: Line = Field("the defaults of the learner", description="origin of these settings, printed by `ntkcl check`")


class Method(Overrides):
    """A learner with settings: `params/methods/NAME.yaml`.

    `settings`, `training` and `preprocessing` apply to every dataset. `datasets.NAME` overrides them for one dataset,
    `other_datasets` for datasets that are not listed, and a variant overrides both. Variants are in `variants` or, with
    labels, in `params/methods/NAME/ablations.yaml`. Variants whose names spell their settings need no entry.
    """

    label: Line = Field(description="name in tables")
    published_as: Line = Field("", description="name in published tables; the label by default")
    note: Line = Field("", description="note below the tables")
    learner: Name = Field(description="module of `ntkcl/methods/` with the learner")
    protocol: Literal["incremental", "joint"] = Field(
        "incremental", description="incremental: task after task; joint: all classes in one task"
    )
    datasets: dict[str, Overrides] = Field({}, description="overrides for single datasets, by name")
    other_datasets: OtherDatasets = Field(OtherDatasets(), description="overrides for datasets that are not listed")
    variants: dict[str, Variant] = Field({}, description="variants by name")
