"""The library for the user's own images: learn, predict, save and load; no `params/` is needed."""

import copy
import runpy
import shutil
from pathlib import Path

import pandas
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from timm.models.vision_transformer import VisionTransformer
from torch.utils.data import Subset
from torchvision.datasets import ImageFolder
from torchvision.transforms.functional import to_tensor

from ntkcl import Classifier
from ntkcl.data.prepared.prepare import load_images
from ntkcl.errors import UserError
from ntkcl.runs import resolve
from tests.helpers.digit_images import BACKBONE, Digits, write_folder
from tests.helpers.projects import REPOSITORY

SMALL = {"settings": {"adapter_width": 4, "prompts": 2}, "training": {"epochs": 1, "batch_size": 32}, "device": "cpu"}


def learned(*digits: str, **options) -> Classifier:
    model = Classifier(BACKBONE, **SMALL | options)
    for some in digits:
        model.learn(Digits(some))
    return model


def failure(function, *arguments, **options) -> str:
    with pytest.raises(UserError) as error:
        function(*arguments, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_classes_come_task_after_task_and_earlier_ones_stay(tiny):
    model = learned("01", "47")
    assert (model.classes, model.task_sizes) == (["0", "1", "4", "7"], [2, 2])
    digits = Digits("0147")
    answers = model.predict([image for image, _ in digits.items])
    right = sum(answer[0][0] == digits.classes[label] for answer, (_, label) in zip(answers, digits.items, strict=True))
    assert right / len(digits) > 0.5  # chance is 0.25


def test_answers_are_the_best_classes_in_order(tiny):
    (answer,) = learned("0147").predict([Digits("0").items[0][0]], top=3)
    scores = [score for _, score in answer]
    assert len(answer) == 3 and scores == sorted(scores, reverse=True)
    assert len(learned("01").predict([Digits("0").items[0][0]], top=9)[0]) == 2
    assert learned("01").predict([]) == []


@pytest.mark.parametrize("method", ["ntk_cl", "simplecil", "adapter_finetuning"])
def test_saving_and_loading_between_tasks_changes_no_byte(tiny, method):
    own = {"ntk_cl": SMALL["settings"], "simplecil": {}, "adapter_finetuning": {"adapter_width": 4}}[method]
    torch.manual_seed(1)
    learned("01", "47", method=method, settings=own).save("at_once.safetensors")
    torch.manual_seed(2)  # what the caller draws must not matter
    learned("01", method=method, settings=own).save("first.safetensors")
    model = Classifier.load("first.safetensors", device="cpu")
    model.learn(Digits("47"))
    model.save("later.safetensors")
    assert Path("later.safetensors").read_bytes() == Path("at_once.safetensors").read_bytes()


def test_seeds_differ_and_the_callers_random_state_and_threads_stay(tiny):
    threads = torch.get_num_threads()
    before = torch.get_rng_state()
    for seed in (0, 1):
        model = learned("01", seed=seed, threads=2)
        model.predict([Digits("0").items[0][0]])
        model.save(f"{seed}.safetensors")
    assert torch.equal(torch.get_rng_state(), before) and torch.get_num_threads() == threads
    assert Path("0.safetensors").read_bytes() != Path("1.safetensors").read_bytes()


def test_pictures_tensors_and_files_are_the_same_images(tiny):
    model = learned("01")
    image = Digits("0").items[0][0]
    image.save("image.png")
    tensor = to_tensor(image)
    given = [image, "image.png", Path("image.png"), tensor, (tensor * 255).round().to(torch.uint8), tensor[0]]
    answers = model.predict(given, top=2)
    assert all(answer == answers[0] for answer in answers)
    assert model.predict("image.png", top=2) == model.predict(image, top=2) == model.predict(tensor[None], top=2)
    (alone,), together = model.predict(image, top=2), answers[0]
    assert [name for name, _ in alone] == [name for name, _ in together]
    assert [score for _, score in alone] == pytest.approx([score for _, score in together], abs=1e-5)


def test_learning_from_tensors_equals_learning_from_pictures(tiny):
    learned("01").save("pictures.safetensors")
    model = Classifier(BACKBONE, **SMALL)
    model.learn(Digits("01", change=to_tensor))
    model.save("tensors.safetensors")
    assert Path("tensors.safetensors").read_bytes() == Path("pictures.safetensors").read_bytes()


def test_names_of_classes(tiny):
    def names(dataset, classes=None):
        model = Classifier(BACKBONE, method="simplecil", device="cpu")
        model.learn(dataset, classes)
        return model.classes

    digits = Digits("01", classes=["nought", "one"])
    assert names(digits) == ["nought", "one"]
    assert names(digits, ["zero", "unit"]) == ["zero", "unit"]
    assert names(Subset(digits, range(12, 24))) == ["one"]
    assert names(Digits("01", classes=[])) == ["0", "1"]
    assert names([(image, "ab"[label]) for image, label in digits.items]) == ["a", "b"]
    assert names([(image, torch.tensor(label)) for image, label in digits.items]) == ["0", "1"]
    assert names(ImageFolder(write_folder(Path("photos"), "58"))) == ["digit5", "digit8"]


def test_wrong_labels_are_refused(tiny):
    model = Classifier(BACKBONE, **SMALL)
    digits = Digits("01")
    assert "label 1 has no name among the 1 classes" in failure(model.learn, digits, ["zero"])
    assert "the label of image 0 of the dataset is of type float" in failure(model.learn, [(digits[0][0], 0.5)])
    assert "image 0 of the dataset is of type tuple; give pairs" in failure(model.learn, [(digits[0][0], 1, "more")])
    assert "the dataset has no images" in failure(model.learn, [])


def test_a_class_that_was_learned_before(tiny):
    model = learned("01")
    assert "class '1' was learned before" in failure(model.learn, Digits("12"))
    model.learn(Digits("12", classes=["another one", "2"]))
    assert model.classes == ["0", "1", "another one", "2"]


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("missing.png", "missing.png cannot be read (No such file or directory)"),
        ("text.png", "text.png cannot be read as an image"),
        (torch.full((1, 16, 16), 2.0), "image 0 has values outside [0, 1]"),
        (torch.full((1, 16, 16), float("nan")), "image 0 has values outside [0, 1]"),
        (torch.zeros(16, 16, 3), "image 0 is a tensor (16, 16, 3); give (C, H, W)"),
        (torch.zeros(1, 16, 16, dtype=torch.int64), "image 0 is a tensor of torch.int64"),
        (5, "image 0 is of type int; give a path"),
    ],
)
def test_what_is_no_image_is_refused(tiny, image, expected):
    Path("text.png").write_text("no image")
    assert expected in failure(learned("01", method="simplecil", settings={}).predict, [image])


def test_a_failed_task_leaves_the_classifier_as_it_was(tiny):
    model, other = learned("01"), learned("01")
    assert "the loss is not finite" in failure(
        Classifier(BACKBONE, **SMALL | {"training": {"lr": 1e30, "batch_size": 8}}).learn, Digits("47")
    )
    spoilt = write_folder(Path("spoilt"), "47")
    (spoilt / "digit4" / "0.png").write_bytes(b"cut off")
    assert "image 0 of the dataset cannot be read" in failure(model.learn, ImageFolder(spoilt))

    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.learn(Digits("58"), on_epoch=stop)
    for each, name in ((model, "tried"), (other, "other")):
        each.learn(Digits("47"))
        each.save(f"{name}.safetensors")
    assert Path("tried.safetensors").read_bytes() == Path("other.safetensors").read_bytes()


def test_before_anything_was_learned(tiny):
    model = Classifier(BACKBONE, **SMALL)
    assert "call learn(dataset) first" in failure(model.predict, ["image.png"])
    assert "call learn(dataset) first" in failure(model.save, "nothing.safetensors")


def test_wrong_settings_name_what_is_meant(tiny):
    assert "settings of ntk_cl: unknown key 'adpter_width'; did you mean 'adapter_width'?" in failure(
        Classifier, BACKBONE, settings={"adpter_width": 4}
    )
    assert "unknown learner 'ntkcl'" in failure(Classifier, BACKBONE, method="ntkcl")
    assert "training: unknown key 'epoch'" in failure(Classifier, BACKBONE, training={"epoch": 4})
    assert "preprocessing: unknown key 'crop'" in failure(Classifier, BACKBONE, preprocessing={"crop": 4})


def small_vit(seed: int, **options) -> VisionTransformer:
    torch.manual_seed(seed)
    shape = {"img_size": 16, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2, "mlp_ratio": 2}
    return VisionTransformer(**shape | options)


def test_the_users_vision_transformer_is_identified_by_its_weights(tiny):
    vit = small_vit(0, num_classes=5)
    headless = copy.deepcopy(vit)
    headless.reset_classifier(0)
    model = Classifier(vit, **SMALL)
    model.learn(Digits("01"))
    model.save("own.safetensors")
    loaded = Classifier.load("own.safetensors", headless, device="cpu")
    image = Digits("0").items[0][0]
    assert loaded.predict([image], top=2) == model.predict([image], top=2)
    assert "give the one that it was learned on" in failure(
        Classifier.load, "own.safetensors", small_vit(1), device="cpu"
    )
    assert "give it: backbone=..." in failure(Classifier.load, "own.safetensors")
    assert "global_pool='token'" in failure(Classifier, small_vit(0, global_pool="avg"), **SMALL)
    assert "square" in failure(Classifier, small_vit(0, img_size=(16, 32)), **SMALL)


def test_color_photographs_get_the_size_of_the_backbone(tiny):
    model = Classifier(small_vit(0), preprocessing={"train_crop": "random", "mean": [0.5], "std": [0.5]}, **SMALL)
    model.learn([(Image.new("RGB", (60, 40), colour), colour) for colour in ("red", "lime", "blue") for _ in range(8)])
    answers = model.predict([Image.new("RGBA", (33, 90), "blue"), Image.new("RGB", (20, 20), "red")])
    assert [answer[0][0] for answer in answers] == ["blue", "red"]


def test_the_state_of_a_run_predicts_as_the_run_did(finished):
    run = resolve("digits", "vit_tiny", "ntk_cl", 0)
    table = pandas.read_csv(run.folder / "predictions.csv.gz")
    images = load_images("digits")
    shutil.rmtree("params")
    model = Classifier.load(run.state_path(1), device="cpu")
    last = table[table.task == 1].head(40)
    answers = model.predict([images.image(images.manifest.ids.index(name)) for name in last.image])
    assert [answer[0][0] for answer in answers] == [model.classes[index] for index in last.predicted]
    assert len(model.classes) == 10


def test_a_run_learns_other_classes_unless_it_has_ended(finished):
    run = resolve("digits", "vit_tiny", "ntk_cl", 0)
    model = Classifier.load(run.state_path(0).resolve(), device="cpu")
    assert model.training == run.training and len(model.classes) == 6
    model.learn([(image, f"own {label}") for image, label in Digits("47").items])
    assert model.task_sizes == [6, 2]
    ended = Classifier.load(run.state_path(1), device="cpu")
    assert "load the state of a task before" in failure(ended.learn, [(Digits("4")[0][0], "own")])


def test_files_that_do_not_fit(tiny):
    learned("01").save("saved.safetensors")
    whole = Path("saved.safetensors").read_bytes()
    Path("cut.safetensors").write_bytes(whole[:-100])
    assert "cut.safetensors is damaged" in failure(Classifier.load, "cut.safetensors")
    assert "none.safetensors is missing" in failure(Classifier.load, "none.safetensors")
    assert "is not a file of the format ntkcl-state" in failure(Classifier.load, BACKBONE)
    assert "is not a file of the format ntkcl-backbone" in failure(Classifier, "saved.safetensors")
    save_file(load_file(BACKBONE), "foreign.safetensors")
    assert "create it with `ntkcl backbone NAME`" in failure(Classifier, "foreign.safetensors")
    Path("backbones").rename("elsewhere")
    assert "there is no backbones/vit_tiny.safetensors" in failure(Classifier.load, "saved.safetensors")
    assert Classifier.load("saved.safetensors", "elsewhere/vit_tiny.safetensors", "cpu").classes == ["0", "1"]


def test_the_examples(tiny, capsys):
    write_folder(Path("tasks/1"), "01"), write_folder(Path("tasks/2"), "47"), write_folder(Path("later"), "58")
    shutil.rmtree("params")

    def run(name: str, *arguments: str) -> str:
        runpy.run_path(str(REPOSITORY / "examples" / name))["main"](*arguments)
        return capsys.readouterr().out

    assert "knows 4 classes" in run("learn_own_images.py", "tasks", BACKBONE, "saved.safetensors")
    answer = run("add_classes_later.py", "saved.safetensors", "later", "later/digit5/0.png")
    assert "knew 4 classes and now knows 6" in answer and "later/digit5/0.png digit" in answer


def test_photographs_are_rotated_alike_in_learning_and_predicting(tiny):
    """ImageFolder gives pictures that are not turned, paths are read by us: EXIF data must count in both."""
    for index, (image, label) in enumerate(Digits("17", 10).items):
        path = Path("photos") / "17"[label] / f"{index}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        exif = Image.Exif()
        exif[0x0112] = 6
        image.convert("RGB").transpose(Image.Transpose.ROTATE_90).save(path, quality=95, exif=exif)
    model = Classifier(BACKBONE, "simplecil", device="cpu")
    photos = ImageFolder("photos")
    model.learn(photos)
    by_path = model.predict([path for path, _ in photos.samples])
    assert by_path == model.predict([image for image, _ in photos])
    upright = [image for image, _ in Digits("17", 10).items]
    right = [label == "17"[truth] for ((label, _),), (_, truth) in zip(model.predict(upright), photos, strict=True)]
    assert sum(right) >= 18


def test_one_tensor_is_one_image_and_four_dimensions_are_a_batch(tiny):
    model = learned("01")
    image = to_tensor(Digits("0").items[0][0])
    single = model.predict([image])
    assert len(single) == 1
    assert model.predict(image) == single
    assert model.predict(image[0]) == single
    for ((name, score),) in model.predict(torch.stack([image, image])):
        assert (name, score) == (single[0][0][0], pytest.approx(single[0][0][1], abs=1e-5))
