"""A flipped bit, a cut or an empty file is noticed by whatever reads it, and the remedy that is printed works."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors.torch import load, load_file

from ntkcl import Classifier
from ntkcl.backbones.files import load_vit, load_vit_file
from ntkcl.data.prepared.prepare import load_images
from ntkcl.errors import UserError
from ntkcl.metrics.continual import read_predictions
from ntkcl.reporting.collect import aggregate
from ntkcl.reporting.study_metrics import read_study_metrics
from ntkcl.runs import resolve
from ntkcl.training.evaluate import evaluate
from ntkcl.training.train import train_task
from tests.helpers.learners import CPU

RUN = "runs/digits/vit_tiny/ntk_cl/seed0"
STATE, METRICS, BACKBONE = f"{RUN}/task0/state.safetensors", f"{RUN}/metrics.json", "backbones/vit_tiny.safetensors"
IMAGES, MANIFEST = "data/digits/images.safetensors", "data/digits/manifest.csv"


def run():
    return resolve("digits", "vit_tiny", "ntk_cl", 0)


READERS: dict[str, tuple[str, Callable[[], object]]] = {
    "a state, by the next task": (STATE, lambda: train_task(run(), 1, CPU)),
    "a state, by the evaluation": (STATE, lambda: evaluate(run(), CPU)),
    "a state, by the library": (STATE, lambda: Classifier.load(STATE, device="cpu")),
    "a backbone, by a run": (BACKBONE, lambda: load_vit("vit_tiny")),
    "a backbone, by the library": (BACKBONE, lambda: load_vit_file(Path(BACKBONE))),
    "images": (IMAGES, lambda: load_images("digits")),
    "a manifest": (MANIFEST, lambda: load_images("digits")),
    "metrics, by the report": (METRICS, lambda: aggregate("quickstart")),
    "metrics of a study": ("reports/metrics.json", read_study_metrics),
}


@pytest.fixture(scope="module")
def project(tiny_finished, tmp_path_factory):
    """One finished project for all: each example repairs what it damaged."""
    folder = tmp_path_factory.mktemp("damaged") / "project"
    shutil.copytree(tiny_finished, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        aggregate("quickstart")
        yield folder


def noticed(path: Path, content: bytes, read: Callable[[], object]) -> str:
    """The message about a file that has this content, or an empty text if it is taken."""
    before = path.read_bytes()
    path.write_bytes(content)
    try:
        read()
    except UserError as error:
        assert "\n" not in str(error)
        assert path.name in str(error) or "digits" in str(error)
        return str(error)
    finally:
        path.write_bytes(before)
    return ""


@pytest.mark.parametrize("reader", READERS)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@example(place=0.999999, bit=0)
@example(place=0.5, bit=7)
def test_one_flipped_bit_is_noticed(project, reader, place, bit):
    path, read = Path(READERS[reader][0]), READERS[reader][1]
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1 << bit
    if not noticed(path, bytes(content), read):  # then nothing has changed but white space or the key of a checksum
        assert path.suffix == ".json" or same_tensors(path, bytes(content))


def same_tensors(path: Path, content: bytes) -> bool:
    """Whether a file with this content has the tensors of `path`."""
    ours, theirs = load_file(path), load(content)
    return ours.keys() == theirs.keys() and all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_a_cut_file_is_noticed(project, reader, share):
    path, read = Path(READERS[reader][0]), READERS[reader][1]
    content = path.read_bytes()
    assert noticed(path, content[: int(share * len(content))], read)


def test_damaged_predictions_are_noticed(project):
    path = Path(RUN, "predictions.csv.gz")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    message = noticed(path, bytes(content), lambda: read_predictions(path))
    assert f"delete it and run `snakemake --cores all {path}`" in message
