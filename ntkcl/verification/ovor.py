"""Replay of OVOR, recorded with the official code."""

from typing import Any, ClassVar

import torch
from torch import Tensor

from ntkcl.methods import ovor
from ntkcl.tasks import Task
from ntkcl.verification.replay import Replay
from ntkcl.verification.trajectory import without_padding


class OVORReplay(Replay):
    """OVOR: outliers as released, whose noise comes from the file."""

    method = "ovor"
    names: ClassVar = {r"last\.(weight|bias)": r"head.\1", r"(prompt\.[ge]_p_\d+)": r"\1"}
    columns: ClassVar = {"ce": "cross_entropy", "huber_id": "huber_images", "huber_outlier": "huber_outliers"}
    not_compared = (r"task\d+/phase",)  # losses depend on it

    def settings(self) -> dict[str, Any]:
        """Settings of prefixes and outliers."""
        meta = self.meta
        return {
            "general_blocks": meta["g_blocks"],
            "general_length": meta["g_length"],
            "expert_blocks": meta["e_blocks"],
            "expert_length": meta["e_length"],
            "warm_up_epochs": meta["epochs"]["warmup"],
            "outlier_epochs": meta["epochs"]["outlier"],
            "outliers": "noise",
            "outlier_weight": meta["outlier_weight"],
            "outlier_batch": meta["id_batch_size"],
            "neighbours": meta["neighbours"],
            "boundary_points": meta["boundary_points"],
            "draws": meta["draws"],
            "noise_scale": meta["noise_scale"],
            "outliers_per_class": meta["outliers_per_class"],
            "image_energy": meta["energy_threshold_id"],
            "outlier_energy": meta["energy_threshold_outlier"],
        }

    def training(self) -> dict[str, Any]:
        """Adam with the released schedule over all phases."""
        meta = self.meta
        training = {"lr": meta["lr"], "epochs": sum(meta["epochs"].values()), "batch_size": meta["batch_size"]}
        return training | {"optimizer": "adam", "schedule": "lagging_cosine", "weight_decay": meta["weight_decay"]}

    def tensors(self) -> dict[str, Tensor]:
        """The prefix of each block by itself."""
        found = dict(self.learner.own_tensors())
        for letter, blocks, rows in (
            ("g", self.meta["g_blocks"], self.learner.general),
            ("e", self.meta["e_blocks"], self.learner.expert),
        ):
            found |= {f"prompt.{letter}_p_{block}": rows.detach()[layer] for layer, block in enumerate(blocks)}
        return found

    def begun(self, task: Task) -> None:
        """Let the learner take noise and orders of the file, and compare stored features and outliers."""
        learner, key, first = self.learner, f"task{task.index}", None
        first = self.learner.phases.index("outlier") if "outlier" in self.learner.phases else len(learner.phases)
        labels = self.train_labels
        mine = ((labels >= task.first_class) & (labels < task.classes_learned)).nonzero()[:, 0]

        def stored_features(images: object) -> tuple[Tensor, Tensor]:
            features = learner.extract_features(self.train_images[mine])[0]
            if f"{key}/kept/outlier_phase_features" in self.file.arrays:
                self.file.compare("kept", features, f"{key}/kept/outlier_phase_features")
            return features, labels[mine]

        def outliers_of(features: Tensor) -> Tensor:
            number = learner.epoch - first
            learner.noise = lambda count: self.file[f"{key}/drawn/noise"][number].double()
            found = type(learner).outliers_of(learner, features)
            self.file.compare("outliers", found, f"{key}/drawn/outliers", self.file[f"{key}/drawn/outliers"][number])
            return found

        def begin_epoch(images: object) -> object:
            given = ovor.OVOR.begin_epoch(learner, images)
            if isinstance(given, ovor.StoredFeatures):
                rows = torch.cat(self.epochs(task)[learner.epoch])
                object.__setattr__(given, "order", lambda: torch.searchsorted(mine, rows))
            return given

        learner.stored_features, learner.outliers_of, learner.begin_epoch = stored_features, outliers_of, begin_epoch

    def features(self) -> None:
        """Compare the plain and the prompted feature."""
        images, vit = self.test_rows(), self.learner.backbone
        plain = vit.forward_head(vit.forward_features(images), pre_logits=True)
        self.file.compare("features", plain, "features/frozen")
        self.file.compare("features", self.learner.extract_features(images)[0], "features/prompted")

    def epochs(self, task: Task) -> list[list[Tensor]]:
        """Epochs with outliers have other batches than those without."""
        batches = without_padding(self.file[f"task{task.index}/batches"])
        count = int(((self.train_labels >= task.first_class) & (self.train_labels < task.classes_learned)).sum())
        found, first = [], 0
        for phase in self.learner.phases:
            size = self.meta["id_batch_size" if phase == "outlier" else "batch_size"]
            steps = -(-count // size)
            found.append(batches[first : first + steps])
            first += steps
        return found


REPLAY = OVORReplay
