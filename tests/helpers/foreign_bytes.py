"""Readers of bytes that may come from outside, each with examples of files that it reads; for fuzzing."""

import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load, save

from ntkcl.classifier import Classifier
from ntkcl.data.loading.transforms import eval_transform, pixels
from ntkcl.data.prepared.arrays import ImageSet, read_images, write_images
from ntkcl.data.prepared.decoding import decode, picture_of
from ntkcl.data.prepared.manifest import Manifest
from ntkcl.data.prepared.packed import FileSet
from ntkcl.data.sources import cifar100, idx, table
from ntkcl.data.sources.common.archives import contents, members
from ntkcl.data.sources.common.lists import Lists, listed
from ntkcl.errors import UserError
from ntkcl.fetching.checksums import recorded, records_path
from ntkcl.metrics.continual import read_predictions, run_metrics
from ntkcl.reporting.json_files import parsed
from ntkcl.reporting.run_results import RunMetrics
from ntkcl.settings.files import load_dataset, load_method, load_study
from ntkcl.settings.models import Preprocessing
from ntkcl.storage.files import read_json, write_sealed_json
from ntkcl.storage.tensor_bytes import SEAL
from ntkcl.training.checkpoint import Checkpoints
from ntkcl.verification.verify import verify_trajectory
from tests.helpers.interruptions import METADATA, learn_second, learner_after_first
from tests.helpers.miniatures import cifar100 as cifar100_miniature
from tests.helpers.projects import REPOSITORY, clear_settings

SHIPPED = REPOSITORY / "ntkcl/backbones/weights/vit_micro.safetensors"
TABLE = b"path,label\na.png,x\nb.png,x\nc.png,y\nd.png,y\n"
SPLIT_TABLE = b"path,label,split\na.png,x,train\nb.png,x,test\nc.png,y,test\nd.png,y,train\n"
LIST = "data:\n- data/a/n1.jpg\n- data/a/n2.jpg\ntargets:\n- 0\n- 1\n"
PREDICTIONS = "task,image,class,predicted,score\n0,a,0,0,0.5\n1,a,0,1,0.4\n1,b,1,1,0.9\n"


@dataclass
class Reader:
    """A function that reads the file at a path, and contents that it accepts."""

    read: Callable[[Path], object]
    examples: list[bytes] = field(default_factory=list)
    name: str = "file"


def readers(folder: Path) -> dict[str, Reader]:
    """All readers, by name; `folder` is an empty folder that becomes the current one of a project."""
    metrics, state, checkpoint = _metrics(folder), _state(folder), _checkpoint_bytes(folder)
    unsealed = _json(read_json(folder / "m.json"))
    found = {
        "images": Reader(_image, _images()),
        "archives": Reader(lambda path: (list(members(path)), list(contents(path, {"a/x.txt"}))), _archives(), "a.zip"),
        "tables": Reader(_table, [TABLE, SPLIT_TABLE]),
        "lists": Reader(_lists, [LIST.encode()], "list.yaml"),
        "settings": Reader(_settings, [path.read_bytes() for path in sorted(REPOSITORY.glob("params/*/*.yaml"))]),
        "CIFAR-100": Reader(lambda path: cifar100.make(cifar100.Options(), {"x": path}), _cifar()),
        "IDX": Reader(_idx, [gzip.compress(bytes([0, 0, 8, 1, 0, 0, 0, 2, 0, 1]))]),
        "checksums.json": Reader(_checksums, [_json({"a/b": {"sha256": "0" * 64, "size": 1}})]),
        "backbones": Reader(
            lambda path: Classifier(path, "simplecil", device="cpu"), [SHIPPED.read_bytes()], "b.safetensors"
        ),
        "metrics.json": Reader(
            lambda path: parsed(RunMetrics, read_json(path), path, "x"),
            [metrics, unsealed],
        ),
        "predictions": Reader(_predictions, [gzip.compress(PREDICTIONS.encode(), mtime=0)], "predictions.csv.gz"),
        "trajectories": Reader(verify_trajectory, [(REPOSITORY / "tests/trajectories/simplecil.npz").read_bytes()]),
        "states": Reader(
            lambda path: Classifier.load(path, SHIPPED, device="cpu"),
            [state, without_seal(state)],
            "s.safetensors",
        ),
        "checkpoints": Reader(_checkpoint, [checkpoint, without_seal(checkpoint)], "c.safetensors"),
    }
    return found | _prepared(folder)


@st.composite
def damaged(draw: st.DrawFn, examples: list[bytes]) -> bytes:
    """An example in which some bytes are changed, inserted, left out or repeated; or bytes of no example."""
    content = bytearray(draw(st.sampled_from(examples)))
    for _ in range(draw(st.integers(1, 4))):
        at = int(draw(st.floats(0, 1)) ** draw(st.sampled_from([1, 3])) * len(content))  # headers more often
        kind = draw(st.sampled_from(["flip", "set", "insert", "cut", "drop", "repeat", "number"]))
        if kind == "flip" and at < len(content):
            content[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "set":
            content[at : at + 4] = draw(st.binary(min_size=1, max_size=4))
        elif kind == "insert":
            content[at:at] = draw(st.binary(max_size=16))
        elif kind == "cut":
            del content[at:]
        elif kind == "drop":
            del content[at : at + draw(st.integers(1, 64))]
        elif kind == "repeat":
            content[at:at] = content[at : at + draw(st.integers(1, 64))] * draw(st.integers(1, 20))
        else:
            content[at : at + 4] = draw(st.sampled_from([bytes(4), b"\xff" * 4, b"\x7f\xff\xff\xff", b"\0\0\0\x80"]))
    return bytes(content)


def _image(path: Path) -> None:
    for channels in (1, 3):
        pixels(eval_transform(picture_of(decode(path.read_bytes(), "x"), channels), Preprocessing(), 16))


def _images() -> list[bytes]:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 9, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112], exif[0x010E], exif[0x8298] = 6, "text", "more text"
    found = []
    for kind in ("PNG", "JPEG", "TIFF", "WEBP", "GIF", "BMP", "PPM", "TGA", "PCX", "ICO", "SGI", "JPEG2000", "AVIF"):
        file = io.BytesIO()
        try:
            picture.save(file, kind, **({"exif": exif} if kind in ("PNG", "JPEG", "TIFF", "WEBP") else {}))
        except (OSError, KeyError):  # this Pillow cannot write it
            continue
        found.append(file.getvalue())
    for mode, kind in (("P", "PNG"), ("I;16", "PNG"), ("CMYK", "TIFF"), ("F", "TIFF"), ("1", "TIFF"), ("LA", "PNG")):
        file = io.BytesIO()
        (picture if mode != "I;16" else picture.convert("I")).convert(mode).save(file, kind)
        found.append(file.getvalue())
    return found


def _archives() -> list[bytes]:
    found, texts = [], {"a/x.txt": b"hello" * 9, "a/long" + "y" * 120: b"1", "b/z.jpg": b"no image"}
    for kind in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", kind) as archive:
            for name, text in texts.items():
                archive.writestr(zipfile.ZipInfo(name), text, kind)
        found.append(file.getvalue())
    for mode, form in (("w", tarfile.PAX_FORMAT), ("w", tarfile.GNU_FORMAT), ("w:gz", tarfile.USTAR_FORMAT)):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode=mode, format=form) as archive:
            for name, text in texts.items():
                info = tarfile.TarInfo(name[:90] if form == tarfile.USTAR_FORMAT else name)
                info.size = len(text)
                archive.addfile(info, io.BytesIO(text))
        found.append(file.getvalue())
    return found


def _table(path: Path) -> None:
    for name in ("a.png", "b.png", "c.png", "d.png"):
        path.with_name(name).write_bytes(b"x")
    table.make(table.Options(csv=str(path)))


def _lists(path: Path) -> None:
    other = path.with_name("other.txt")
    other.write_text("data/b/n3.jpg\n")
    options = Lists(kind="lists", train="list.yaml", test="other.txt", entry="data/(?P<image>.+)")
    listed(options, {"list.yaml": path, "other.txt": other})


def _settings(path: Path) -> None:
    problems = []
    for kind, load_settings in (("studies", load_study), ("datasets", load_dataset), ("methods", load_method)):
        target = Path("params", kind, "fuzzed.yaml")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
        clear_settings()
        try:
            load_settings("fuzzed")
        except UserError as error:
            problems.append(error)
    if len(problems) == 3:
        raise problems[0]


def _idx(path: Path) -> None:
    names = ("train-images", "train-labels", "t10k-images", "t10k-labels")
    idx.make(idx.Options(class_names=["a", "b"]), dict.fromkeys(names, path))


def _cifar() -> list[bytes]:
    return list(cifar100_miniature().files.values())


def _checksums(path: Path) -> None:
    records_path().parent.mkdir(parents=True, exist_ok=True)
    records_path().write_bytes(path.read_bytes())
    recorded("a/b")


def _predictions(path: Path) -> None:
    run_metrics(read_predictions(path), [1, 1], "incremental")


def _json(content: object) -> bytes:
    return json.dumps(content).encode()


def _metrics(folder: Path) -> bytes:
    metrics = {"accuracy": [90.0, 80.0], "accuracy_matrix": [[90.0], [80.0, 80.0]], "average_accuracy": 85.0}
    metrics |= {"final_accuracy": 80.0, "forgetting": 10.0, "backward_transfer": -10.0, "learning_accuracy": 85.0}
    content = {"run": {"dataset": "d", "backbone": "b", "variant": "v", "seed": 0}, "digest": "0", "metrics": metrics}
    content |= {"provenance": [{"device": "x", "versions": {}, "commit": "c"}], "data": {"split": "s", "content": "c"}}
    write_sealed_json(folder / "m.json", content)
    return (folder / "m.json").read_bytes()


def _state(folder: Path) -> bytes:
    model = Classifier(SHIPPED, "simplecil", device="cpu")
    model.learn([(Image.new("L", (8, 8), 60 * label), label) for label in (0, 1)])
    model.save(folder / "s.safetensors")
    return (folder / "s.safetensors").read_bytes()


def without_seal(content: bytes) -> bytes:
    """A tensor file as earlier versions wrote it, and as somebody may who wants to do harm."""
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    metadata = json.loads(header["__metadata__"]["ntkcl"])
    metadata.pop(SEAL, None)
    return save(load(content), {"ntkcl": json.dumps(metadata)})


def _checkpoint_bytes(folder: Path) -> bytes:
    path = folder / "checkpoint.safetensors"
    learn_second(path, "adapter_finetuning", interrupt_at=3, interval=0)
    return path.read_bytes()


def _checkpoint(path: Path) -> None:
    learner, _ = learner_after_first("adapter_finetuning")
    Checkpoints(path, METADATA, {"device": "test"}, 1e9).read(learner.own_tensors())


def _prepared(folder: Path) -> dict[str, Reader]:
    """Readers of both files of a prepared dataset, of arrays and of encoded images."""
    manifest = Manifest(["a", "b"], ["x", "y"], ["train", "test"])
    found = {}
    for name, images in {
        "arrays": ImageSet(manifest, torch.zeros(2, 1, 4, 4, dtype=torch.uint8)),
        "packed": FileSet(manifest, list(enumerate(_images()[:2]))),
    }.items():
        where = folder / name
        write_images(where, images, {"digest": "d"})
        for file in ("images.safetensors", "manifest.csv"):

            def read(path: Path, where: Path = where, file: str = file) -> None:
                before = (where / file).read_bytes()
                (where / file).write_bytes(path.read_bytes())
                try:
                    read_images(where, "d", "").image(0)
                finally:
                    (where / file).write_bytes(before)

            found[f"{name}, {file}"] = Reader(read, [(where / file).read_bytes()])
    return found
