"""A trained state for another machine: the state, its backbone, and a model card."""

from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from ntkcl.backbones.shipped import shipped_metadata, shipped_names
from ntkcl.errors import UserError
from ntkcl.export.new_folder import copy, new_folder
from ntkcl.runs import Run
from ntkcl.storage.files import read_json, sha256_of, write_text
from ntkcl.storage.tensors import read_tensors
from ntkcl.training.state import FORMAT, VERSION
from ntkcl.verification.results import problems_of_run

STATE = "state.safetensors"


def export_run(run: Run, folder: Path, task: int | None = None) -> None:
    """Write the state of a finished run to a new folder, with its backbone, unless the package has it, and a card.

    `Classifier.load(folder / "state.safetensors")` takes it, on any machine with the package.

    Args:
        run: the run.
        folder: the folder.
        task: the state after this task; the last one by default.

    Raises:
        UserError: the run has not finished, a file of it is damaged or does not belong to it, or the folder exists or
            cannot be written.
    """
    task = len(run.tasks) - 1 if task is None else task
    if not 0 <= task < len(run.tasks):
        raise UserError(f"{run.name} has no task {task}; it has tasks 0 to {len(run.tasks) - 1}")
    if problem := next(problems_of_run(run), None):
        raise UserError(problem)
    path, name = run.state_path(task), run.backbone_name
    _, metadata = read_tensors(path, FORMAT, VERSION, run.digest, "train it again")
    is_shipped = name in shipped_names() and shipped_metadata(name)["fingerprint"] == metadata["model"]["weights"]
    with new_folder(folder) as new:
        copy(path, new / STATE)
        if not is_shipped:
            backbone = Path("backbones") / f"{name}.safetensors"
            copy(backbone, new / backbone)
        write_text(new / "README.md", _card(run, task, metadata, new / STATE, is_shipped))


def _card(run: Run, task: int, metadata: dict[str, Any], state: Path, is_shipped: bool) -> str:
    """A model card: what it is, its numbers, how to load it and how to make it again."""
    metrics = read_json(run.folder / "metrics.json")["metrics"]
    joint = run.method.protocol == "joint"  # one task with all classes; the metrics are by the dataset's tasks
    row, sizes = (-1, run.dataset.task_sizes) if joint else (task, metadata["task_sizes"])
    accuracy = metrics["accuracy"][row]
    data = ModelCardData(
        library_name="ntkcl",
        pipeline_tag="image-classification",
        tags=["continual-learning", "class-incremental", run.method.learner],
        model_name=run.name,
        eval_results=[
            EvalResult(
                task_type="image-classification",
                dataset_type=run.dataset_name,
                dataset_name=run.dataset.label,
                metric_type="accuracy",
                metric_name=f"accuracy on the classes of all tasks learned (%), after task {task}",
                metric_value=accuracy,
            )
        ],
    )
    learned = len(metadata["classes"])
    how = "at once" if joint else f"in {task + 1} of {len(run.tasks)} tasks without old images"
    made = metadata["provenance"]
    versions = ", ".join(f"{name} {version}" for name, version in made["versions"].items())
    numbers = "\n".join(
        f"| {index} | {size} | {value:.2f} |"
        for index, (size, value) in enumerate(zip(sizes, metrics["accuracy_matrix"][row], strict=True))
    )
    weights = run.backbone.weights
    origin = (weights.terms or "terms not stated") if weights else "pre-trained with this package"
    backbone = "whose weights are in the package" if is_shipped else f"`backbones/{run.backbone_name}.safetensors`"
    return f"""---
{data.to_yaml()}
---

# {run.label} on {run.dataset.label}

A classifier of {learned} classes, learned {how}: {run.label} on the frozen backbone {run.backbone.label}, {backbone}.

```python
from ntkcl import Classifier

model = Classifier.load("state.safetensors")
model.predict(["image.png"])
```

or `ntkcl predict state.safetensors IMAGES`. The state has the settings of its model: this folder is enough.

## Numbers

One run, seed {run.seed}. Accuracy on the test images of all {learned} classes after this task: {accuracy:.2f} %.
By task, in percent:

| task | classes | accuracy |
| ---: | ---: | ---: |
{numbers}

## Data

{run.dataset.label}{f" ({run.dataset.note})" if run.dataset.note else ""}. Terms: {run.dataset.terms or "not stated"}.
Backbone: {origin}.
Classes in the order that they were learned in: {", ".join(metadata["classes"])}.

## Made with

{made["device"]}; {versions}; commit {made["commit"]}, lock file {made.get("lock") or "unknown"}.
sha256 of the state: `{sha256_of(state)}`.
Again, in a checkout of that commit (a "+" means that the code had changes besides it):

```sh
snakemake --cores all {run.state_path(task)}
```
"""
