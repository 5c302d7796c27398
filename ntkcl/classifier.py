"""The library for your own images: a classifier that learns new classes task after task."""

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ntkcl.backbones.timm_vit import VisionTransformer
from ntkcl.backbones.user_backbone import find_backbone, open_backbone
from ntkcl.backbones.vit_blocks import in_precision
from ntkcl.data.loading.batches import TransformedImages
from ntkcl.data.loading.transforms import eval_transform, normalized, pixels
from ntkcl.data.loading.user_images import ImageLike, LabeledImages, class_per_image, item, to_pil
from ntkcl.data.prepared.decoding import picture_of
from ntkcl.devices.compute import batches_per_frozen_pass, choose_device, precision_on, to_device
from ntkcl.devices.random_state import random_state, set_random_state
from ntkcl.errors import UserError
from ntkcl.registry import METHODS
from ntkcl.settings.digest import digest_of
from ntkcl.settings.models import Architecture, Preprocessing, Training
from ntkcl.settings.validation import validated, whole_number
from ntkcl.storage.provenance import provenance
from ntkcl.storage.tensors import read_tensors, require
from ntkcl.tasks import Task, tasks_of
from ntkcl.training.loop import LossLog, learn_task
from ntkcl.training.state import (
    FORMAT,
    VERSION,
    model_config,
    next_task_path,
    read_next_task,
    restore_learner,
    write_state,
)

STATE_TYPES = {"model": dict, "seed": int, "classes": list, "task_sizes": list, "task": int, "tasks": int | None}
MODEL_TYPES = {"learner": str, "settings": dict, "training": dict, "preprocessing": dict, "weights": str}
MODEL_TYPES |= {"backbone": str | None}
PREDICTED_TOGETHER = 64  # images


class Classifier:
    """A frozen ViT and a method that learns on it; needs no `params/` and no project folder.

    It uses its own random state and number of threads: the same seed and data give identical results, independent of
    other random calls and of save and load.

    Args:
        backbone: "vit_micro", whose weights come with the package; or a file `backbones/NAME.safetensors`; or a
            VisionTransformer of timm's, which is frozen and moved to `device`; in bfloat16, a copy of it is.
        method: name of a learner in `ntkcl/methods/`.
        settings: settings of the method.
        training: settings of the training loop, as in `ntkcl.settings.models.Training`.
        preprocessing: as in `ntkcl.settings.models.Preprocessing`; overrides what the backbone's file says.
        seed: seed of all random numbers.
        device: "cpu", "cuda", "cuda:N", or "auto" for a GPU if there is one.
        threads: number of CPU threads.

    Attributes:
        classes: the names of the classes learned, in order.
        task_sizes: how many of them each task brought.

    Raises:
        UserError: the backbone cannot be used, or a setting is wrong.
    """

    def __init__(
        self,
        backbone: str | Path | VisionTransformer,
        method: str = "ntk_cl",
        settings: dict[str, Any] | None = None,
        training: dict[str, Any] | None = None,
        preprocessing: dict[str, Any] | None = None,
        seed: int = 0,
        device: str | torch.device = "auto",
        threads: int = 1,
    ) -> None:
        seed, threads = whole_number("seed", seed, 0), whole_number("threads", threads, 1)
        chosen = choose_device(device, wait=False)
        vit, self._backbone = open_backbone(backbone)
        learner = METHODS.load(method)
        self.method, self.seed, self.threads = method, seed, threads
        self.settings = validated(learner.Settings, settings or {}, f"settings of {method}")
        self.training = validated(Training, training or {}, "training")
        preprocessing = self._backbone["preprocessing"] | (preprocessing or {})
        self.preprocessing = validated(Preprocessing, preprocessing, "preprocessing")
        self.architecture = Architecture(**self._backbone["architecture"])
        self.device = chosen
        self.classes: list[str] = []
        self.task_sizes: list[int] = []
        self._is_closed = False
        self._planned: dict[str, int | None] = {}  # of the run that the state comes from
        self._random: dict[str, Tensor] = {}
        with self._isolated():
            torch.manual_seed(seed)
            vit = in_precision(vit, precision_on(self.device, self.training.precision))
            self._learner = learner(vit, self.settings).to(self.device)
        if self._learner.needs_old_images:
            raise UserError(
                f"with these settings {method} is an oracle, which needs all old images; choose other settings"
            )

    def learn(
        self,
        dataset: LabeledImages,
        classes: Sequence[str] | None = None,
        on_epoch: Callable[[int, int, float], None] = lambda epoch, epochs, loss: None,
    ) -> LossLog:
        """Learn the classes of `dataset` as one task. An error leaves this classifier unchanged.

        Args:
            dataset: pairs of an image (PIL image or tensor, without random transforms) and its label.
            classes: names of the labels 0, 1, ...; `dataset.classes` if not given, else the labels.
            on_epoch: called after each epoch with its number, the number of epochs, and the mean loss.

        Returns:
            The losses of every step.

        Raises:
            UserError: a class was learned before, an image or label cannot be used, or a loss is not finite.
        """
        names, new = class_per_image(dataset, classes)
        if again := [name for name in new if name in self.classes]:
            raise UserError(f"class '{again[0]}' was learned before; leave it out, or give it another name (`classes`)")
        if self._is_closed:
            raise UserError(
                "this is the last state of a run, which was told that nothing follows; load the state of a task before"
            )
        labels = torch.tensor([len(self.classes) + new.index(name) for name in names])
        task = Task(index=len(self.task_sizes), first_class=len(self.classes), size=len(new), **self._planned)
        images = self._transformed(lambda row: item(dataset, row)[0], labels)
        vit = self._learner.backbone
        learner = copy.deepcopy(self._learner, {id(vit): vit})
        with self._isolated():
            ahead = batches_per_frozen_pass(self.device, self.training.batch_size)
            log = learn_task(learner, task, images, self.training, on_epoch, batches_per_frozen_pass=ahead)
        self._learner = learner
        self.classes, self.task_sizes = self.classes + new, [*self.task_sizes, len(new)]
        return log

    def predict(self, images: ImageLike | Sequence[ImageLike], top: int = 1) -> list[list[tuple[str, float]]]:
        """Return the `top` classes of each image, best first, each with its score; a tensor (B, C, H, W) is a batch.

        Scores rank the classes of one image; their scale depends on the method (NTK-CL: sums of cosines).

        Raises:
            UserError: nothing was learned, or an image cannot be read.
        """
        self._check_learned()
        if isinstance(images, str | Path | Image.Image) or (isinstance(images, Tensor) and images.ndim < 4):
            images = [images]
        answers = []
        for answer in self.predict_each(images, top):
            if isinstance(answer, UserError):
                raise answer
            answers.append(answer)
        return answers

    @torch.no_grad()
    def predict_each(self, images: Iterable[ImageLike], top: int = 1) -> Iterator[list[tuple[str, float]] | UserError]:
        """Yield what `predict` returns for each image, or the error of an image that cannot be read.

        Of images that wait for their batch, only the cropped pixels are kept.

        Raises:
            UserError: nothing was learned.
        """
        self._check_learned()
        numbered, top = enumerate(images), min(top, len(self.classes))
        with ThreadPoolExecutor(self.threads) as pool:
            while batch := list(islice(numbered, PREDICTED_TOGETHER)):
                found = list(pool.map(lambda pair: self._pixels(*pair), batch))
                known = [each for each in found if isinstance(each, Tensor)]
                answers = iter(self._best(torch.stack(known), top) if known else [])
                yield from [next(answers) if isinstance(each, Tensor) else each for each in found]

    def _pixels(self, number: int, image: ImageLike) -> Tensor | UserError:
        """The cropped pixels (C, H, W) of an image, or its error."""
        channels, side = self.architecture.in_chans, self.architecture.img_size
        try:
            picture = picture_of(to_pil(image, f"image {number}"), channels, self.preprocessing.exif_rotation)
            return pixels(eval_transform(picture, self.preprocessing, side))
        except UserError as error:
            return error

    def _best(self, images: Tensor, top: int) -> list[list[tuple[str, float]]]:
        """The best classes of images (B, C, H, W), uint8."""
        with self._isolated():
            batch = normalized(to_device(images, self.device), self.preprocessing)
            values, best = self._learner.scores(batch).cpu().topk(top)
        return [
            [(self.classes[index], value) for index, value in zip(*row, strict=True)]
            for row in zip(best.tolist(), values.tolist(), strict=True)
        ]

    def save(self, path: str | Path) -> None:
        """Write the state; it contains the name and fingerprint of the backbone, not its weights.

        Raises:
            UserError: nothing was learned, or the file cannot be written.
        """
        self._check_learned()
        model = model_config(self.method, self._backbone, self.settings, self.training, self.preprocessing)
        metadata = {"run": "classifier", "digest": digest_of(model, self.seed), "seed": self.seed, "model": model}
        metadata |= {"task": len(self.task_sizes) - 1, "tasks": len(self.task_sizes) if self._is_closed else None}
        made_with = provenance(self.device.type, precision_on(self.device, self.training.precision))
        metadata |= {
            "planned": self._planned,
            "classes": self.classes,
            "task_sizes": self.task_sizes,
            "provenance": made_with,
        }
        with self._isolated():
            write_state(Path(path), self._learner, metadata)

    @classmethod
    def load(
        cls,
        path: str | Path,
        backbone: str | Path | VisionTransformer | None = None,
        device: str | torch.device = "auto",
        threads: int = 1,
    ) -> "Classifier":
        """Load what `save` wrote, or the state of a run.

        Args:
            path: the file; of a run, `task<t>/state.safetensors`.
            backbone: the one that it was learned on; if not given, the shipped weights of this name, or
                `backbones/NAME.safetensors` here or above the file.

        Raises:
            UserError: the file or the backbone is missing, damaged, or does not fit.
        """
        path, remedy = Path(path), "give a file that Classifier.save or `ntkcl train` wrote"
        tensors, metadata = read_tensors(path, FORMAT, VERSION, None, remedy)
        require(metadata, STATE_TYPES, path, remedy)
        model = metadata["model"]
        require(model, MODEL_TYPES, path, remedy)
        vit = backbone or find_backbone(path, model["backbone"], model["weights"])
        own = (model[name] for name in ("learner", "settings", "training", "preprocessing"))
        loaded = cls(vit, *own, metadata["seed"], device, threads)
        if loaded._backbone["fingerprint"] != model["weights"]:
            raise UserError(
                f"{path} was learned on a backbone with the fingerprint {model['weights'][:12]}, not "
                f"{loaded._backbone['fingerprint'][:12]}; give the one that it was learned on"
            )
        loaded.classes, loaded.task_sizes = metadata["classes"], metadata["task_sizes"]
        loaded._is_closed = metadata["tasks"] == metadata["task"] + 1
        loaded._planned = metadata.get("planned", {})
        with loaded._isolated():
            unknown = dict(count=None, stream_tasks=None, stream_classes=None)
            learned = [task.model_copy(update=unknown | loaded._planned) for task in tasks_of(loaded.task_sizes)]
            if next_task_path(path).is_file():
                tensors |= read_next_task(path, loaded._learner, tensors, metadata, remedy)
            restore_learner(loaded._learner, tensors, learned, f"{path} does not fit its method", remedy)
            loaded._learner.to(loaded.device).eval()
        return loaded

    def _check_learned(self) -> None:
        if not self.classes:
            raise UserError("nothing was learned yet; call learn(dataset) first")

    def _transformed(self, read: Callable[[int], Image.Image], labels: Tensor) -> TransformedImages:
        side, channels = self.architecture.img_size, self.architecture.in_chans
        return TransformedImages(read, labels, self.preprocessing, side, channels, self.device, threads=self.threads)

    @contextmanager
    def _isolated(self) -> Iterator[None]:
        """Torch with this classifier's random state and threads; the caller's stay as they are."""
        threads = torch.get_num_threads()
        with torch.random.fork_rng([torch.cuda.current_device()] if torch.cuda.is_available() else []):
            if self._random:
                set_random_state(self._random)
            torch.set_num_threads(self.threads)
            try:
                yield
                self._random = random_state()
            finally:
                torch.set_num_threads(threads)
