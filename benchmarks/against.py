"""Time another implementation beside ours, in turn (theirs, ours, theirs, ...), on the same images and weights.

    python benchmarks/against.py benchmarks/official/ntk_cl.py --checkout ~/NTK-CL --device cuda --out times.json

The other implementation lies in a checkout outside this repository. The file named first drives it: it names a variant
of ours, VARIANT, and has a class `Official(checkout: Path, learner: Learner, setting: Setting)`, an `Implementation`
that takes its weights from our learner.

Ours is that variant with its settings for CIFAR-100, in the loop that real runs have. Both sides have met 5 of 10 tasks
with 10 classes each, with random numbers for what these left; they are timed in predicting, and in training the sixth
task. Images are noise that lies on the device; reading and cropping are not timed, nor what a method does before a
task's first step and after its last one.
"""

import hashlib
import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import click
import torch
from torch import Tensor
from turns import Implementation, Record, Setting, Turn

from ntkcl.backbones.files import build_vit
from ntkcl.backbones.vit_blocks import in_precision
from ntkcl.bench.speed import randomize_buffers
from ntkcl.devices.compute import batches_per_frozen_pass, choose_device
from ntkcl.errors import UserError
from ntkcl.methods.learner import Learner
from ntkcl.registry import METHODS
from ntkcl.runs import Run, resolve
from ntkcl.settings.models import Architecture
from ntkcl.storage.provenance import provenance
from ntkcl.tasks import Batches, tasks_of
from ntkcl.training.loop import learn_task

B16 = Architecture(img_size=224, patch_size=16, in_chans=3, embed_dim=768, depth=12, num_heads=12, mlp_ratio=4)
SIZES = {"vit_b16": B16, "five_blocks": B16.model_copy(update={"depth": 5})}  # the second tries things
TASKS, LEARNED = tasks_of([10] * 10), 5
STEPS = {"cpu": 1, "cuda": 8}  # of a turn
WARM_UP = 1  # rounds that do not count
TOLERANCE = 1e-4  # of features or scores, whose entries are about 1


class Ours:
    """The variant with its settings for CIFAR-100."""

    def __init__(self, run: Run, architecture: Architecture, setting: Setting, precision: str) -> None:
        torch.manual_seed(0)  # the same weights in both precisions
        vit = in_precision(build_vit(architecture).eval(), precision)
        self.learner = METHODS.load(run.method.learner)(vit, run.settings).to(setting.device)
        self.setting, self.run, self.precision = setting, run, precision
        for task in setting.tasks[: setting.learned]:
            self.learner.add_task(task)
        randomize_buffers(self.learner, 0.02)
        if run.variant != "ntk_cl":  # whose adapters and prompts are left as they are, as the other side has its own
            for name, parameter in self.learner.named_parameters():
                if not name.startswith("backbone."):
                    torch.nn.init.normal_(parameter, std=0.02)
        self.learner.eval()

    @torch.no_grad()
    def predict(self, turn: Turn) -> None:
        """As for an `Implementation`; predictions come to the host batch by batch."""
        for images, _ in turn:
            self.learner.scores(images).argmax(1).cpu()

    def train(self, turns: "Turns") -> None:
        """Train the next task, in one pass over all turns."""
        setting, turns.learner = self.setting, self.learner
        changes = {"batch_size": setting.batch, "epochs": 1, "first_epochs": 1, "precision": self.precision}
        training = self.run.training.model_copy(update=changes)
        ahead = batches_per_frozen_pass(setting.device, training.batch_size)
        learn_task(self.learner, setting.tasks[setting.learned], turns, training, batches_per_frozen_pass=ahead)


@dataclass
class Turns:
    """The task's images as our loop takes them: theirs has its turn within, whenever ours has done its own."""

    theirs: Implementation
    precision: str
    batches: list[tuple[Tensor, Tensor]]
    record: Record
    learner: Learner | None = None

    def train_batches(self, batch_size: int, skip: int = 0) -> Batches:
        """All rounds; passes before and after training get one batch."""
        if self.learner and not self.learner.training:
            yield self.batches[0]
            return
        for number in range(WARM_UP + self.record.rounds):
            first, second = Turn(self.batches), Turn(self.batches)
            with in_their_precision(self.precision, self.batches[0][0].device):
                self.theirs.train(first)
            yield from second
            self.record.add(first, second, number < WARM_UP)

    def eval_batches(self, batch_size: int = 64) -> Batches:
        """An image of every class."""
        task, like = TASKS[LEARNED], self.batches[0][0]
        yield like.new_zeros(task.size, *like.shape[1:]), torch.arange(task.size, device=like.device) + task.first_class


@contextmanager
def in_their_precision(precision: str, device: torch.device) -> Iterator[None]:
    """For bfloat16: torch's autocast, and TF32 for what is left in float32.

    Without autocast's cache, which would keep old weights through several steps; each is used once a step anyway.
    """
    if precision == "float32":
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        with torch.autocast(device.type, torch.bfloat16, cache_enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def random_batches(setting: Setting, steps: int, classes: range, side: int) -> list[tuple[Tensor, Tensor]]:
    """Noise and labels in random order, for the steps of a turn."""
    shape = (steps, setting.batch, 3, side, side)
    images, labels = torch.rand(shape), torch.randint(classes.start, classes.stop, shape[:2])
    return list(zip(images.to(setting.device), labels.to(setting.device), strict=True))


def evaluate(theirs: Implementation, ours: Ours, precision: str, batches: list, record: Record) -> None:
    """All rounds of predicting."""
    for number in range(WARM_UP + record.rounds):
        first, second = Turn(batches), Turn(batches)
        with in_their_precision(precision, ours.setting.device):
            theirs.predict(first)
        ours.predict(second)
        record.add(first, second, number < WARM_UP)


def difference(theirs: Implementation, ours: Ours, images: Tensor) -> float:
    """The largest difference of what both make of images, in float32.

    Raises:
        UserError: the two do not compute the same.
    """
    compared = getattr(theirs, "outputs_of_ours", lambda learner, images: learner.scores(images))
    with torch.no_grad():
        outputs, others = compared(ours.learner, images), theirs.outputs(images)
    if outputs.shape != others.shape:
        raise UserError(f"theirs has outputs of shape {tuple(others.shape)}, ours {tuple(outputs.shape)}")
    worst = float((outputs - others).abs().max())
    if not worst <= TOLERANCE:
        raise UserError(f"outputs differ by {worst:.1e}: the two do not compute the same; nothing was timed")
    return worst


def about(checkout: Path) -> dict[str, str]:
    """What is in the checkout: its commit ('+' for changes), where it has one, and a sha256 of its Python files."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(checkout), *arguments], capture_output=True, text=True)
        return done.stdout.strip()

    has_commit = git("rev-parse", "--show-toplevel") == str(checkout.resolve())
    commit = git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain") else "") if has_commit else "unknown"
    digest = hashlib.sha256()
    for path in sorted(checkout.rglob("*.py")):
        digest.update(f"{path.relative_to(checkout)} ".encode() + path.read_bytes())
    return {"commit": commit, "python_files": digest.hexdigest()}


def load(file: Path) -> ModuleType:
    """The driver of the other implementation."""
    spec = importlib.util.spec_from_file_location(f"driver_of_{file.stem}", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--checkout", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option("--batch", type=click.IntRange(1), default=16, show_default=True, help="Images of a step.")
@click.option("--steps", type=click.IntRange(1), help="Of a turn: 1 on a CPU, 8 on a GPU if not given.")
@click.option("--rounds", type=click.IntRange(1), default=10, show_default=True)
@click.option("--ours-precision", type=click.Choice(["float32", "bfloat16"]), default="float32", show_default=True)
@click.option(
    "--theirs-precision",
    type=click.Choice(["float32", "bfloat16"]),
    default="float32",
    show_default=True,
    help="bfloat16: autocast and TF32 around their code.",
)
@click.option("--part", type=click.Choice(["train", "evaluate", "both"]), default="both", show_default=True)
@click.option(
    "--size",
    type=click.Choice([*SIZES]),
    default="vit_b16",
    show_default=True,
    help="five_blocks: to see whether it runs; its ratio says nothing about 12 blocks.",
)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="CPU threads.")
@click.option("--out", type=click.Path(path_type=Path), help="A JSON file for all times.")
def main(
    file: Path,
    checkout: Path,
    batch: int,
    steps: int | None,
    rounds: int,
    ours_precision: str,
    theirs_precision: str,
    part: str,
    size: str,
    device: str,
    threads: int,
    out: Path | None,
) -> None:
    """Time the implementation that FILE drives beside ours. Start it in a project folder."""
    torch.set_num_threads(threads)
    driver, where, architecture = load(file), choose_device(device), SIZES[size]
    run = resolve("cifar100", "vit_b16_in21k", driver.VARIANT, 0)
    setting, side = Setting(where, batch, TASKS, LEARNED, run.training.lr), architecture.img_size
    ahead = batches_per_frozen_pass(where, batch)
    steps = -(-(steps or STEPS[where.type]) // ahead) * ahead  # ours takes `ahead` batches at once
    seen, task = range(TASKS[LEARNED].first_class), TASKS[LEARNED]
    records = [Record(name, rounds) for name in ("evaluate", "train") if part in (name, "both")]
    ours = Ours(run, architecture, setting, "float32")
    theirs = driver.Official(checkout, ours.learner, setting)
    worst = difference(theirs, ours, torch.rand(2, 3, side, side, device=where))
    print(f"{run.variant}: outputs of the two differ by {worst:.1e} at most", flush=True)
    ours = Ours(run, architecture, setting, ours_precision)
    for record in records:
        if record.part == "evaluate":
            batches = random_batches(setting, steps, seen, side)
            evaluate(theirs, ours, theirs_precision, batches, record)
        else:
            batches = random_batches(setting, steps, range(task.first_class, task.classes_learned), side)
            ours.train(Turns(theirs, theirs_precision, batches, record))
    origin = provenance(where.type, "float32") | {"threads": threads, "checkout": about(checkout)}
    print(f"\n{origin['device']}, {threads} CPU threads; {size}, batches of {batch}, {rounds} rounds of {steps} steps")
    print(f"theirs in {theirs_precision}: {file.stem}, commit {origin['checkout']['commit']}")
    print(f"ours in {ours_precision}: commit {origin['commit']}; {origin['versions']}")
    for record in records:
        result = record.summary(batch)
        rates = f"theirs {result['theirs']:.4g} images/s, ours {result['ours']:.4g} images/s (medians)"
        ratio = f"ours {result['ratio']:.3f} times as fast (from {result['least']:.3f} to {result['most']:.3f})"
        print(f"{record.part:8} {rates}; {ratio}")
    if out:
        what = {"size": size, "batch": batch, "steps": steps, "rounds": rounds}
        what |= {"theirs_precision": theirs_precision, "ours_precision": ours_precision}
        parts = {r.part: {"seconds_per_step": {"theirs": r.theirs, "ours": r.ours}} for r in records}
        for r in records:
            parts[r.part] |= {"images_of_each": r.images, "images_per_second_and_ratio": r.summary(batch)}
        report = {
            "theirs": file.stem,
            "ours": run.variant,
            **what,
            "outputs_differ_by": worst,
            "parts": parts,
            "provenance": origin,
        }
        out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
