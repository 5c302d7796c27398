"""From the tables back to the data: each number computed again from the predictions, each digest compared."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ntkcl.backbones.files import load_vit, weights_metadata
from ntkcl.data.prepared.status import verified
from ntkcl.errors import UserError
from ntkcl.metrics.continual import read_predictions, run_metrics
from ntkcl.progress import tracked
from ntkcl.reporting.collect import aggregate
from ntkcl.reporting.study_metrics import REPORTS, read_study_metrics
from ntkcl.reporting.tables.write import write_tables
from ntkcl.runs import Run, runs_of
from ntkcl.settings.files import load_study
from ntkcl.storage.files import read_json
from ntkcl.storage.tensors import read_tensors
from ntkcl.training.parts import stream_of
from ntkcl.training.state import FORMAT, VERSION

TABLES = ("tables.tex", "tables.md", "tables.html")


def problems_of_report(reports: Path = REPORTS, threads: int = 1) -> Iterator[str]:
    """Follow the tables in `reports` back to the images; yield one line for each thing that does not belong there.

    The tables follow from `reports/metrics.json`, this from the runs' `metrics.json`, and these from the predictions; a
    run's states have its settings, images and weights, and states, images and weights have the bytes that were written.

    Raises:
        UserError: `reports/metrics.json` is missing or damaged, or its study does not exist.
    """
    study = read_study_metrics(reports)
    shown = load_study(study.study).table_variants
    runs = [run for run in runs_of(load_study(study.study)) if run.variant in shown]
    found = [run for run in runs if (run.folder / "metrics.json").exists()]
    yield from _problems_of_tables(reports, study.study, {run.folder: run.digest for run in runs})
    for name in sorted({run.dataset_name for run in found}):
        if not verified(name, threads):
            yield f"data/{name} is damaged (see above)"
    for name in sorted({run.backbone_name for run in found}):
        yield from _errors(lambda name=name: load_vit(name))
    for run in tracked(found, "verifying", len(found), "runs"):
        yield from problems_of_run(run)


def problems_of_run(run: Run) -> Iterator[str]:
    """As `problems_of_report`, for a run that has its metrics."""
    path = run.folder / "metrics.json"
    remedy = f"delete it and run `snakemake --cores all {path}`"
    try:
        content, data, weights = read_json(path), stream_of(run).summary, weights_metadata(run.backbone_name)
        predictions = read_predictions(run.folder / "predictions.csv.gz")
        metrics = run_metrics(predictions, run.dataset.task_sizes, run.method.protocol)
    except UserError as error:
        yield str(error)
        return
    if content.get("metrics") != json.loads(json.dumps(metrics)):
        yield f"{path} does not follow from the predictions beside it; {remedy}"
    if content.get("digest") != run.digest:
        yield f"{path} was computed with other settings than those in params/ now; {remedy}"
    if content.get("data") != json.loads(json.dumps(data)):
        yield f"{path} was computed from other images than those in data/{run.dataset_name}; {remedy}"
    for task in run.tasks:
        yield from _problems_of_state(run, task.index, data, weights, content)


def _problems_of_state(
    run: Run, index: int, data: dict[str, Any], weights: dict[str, Any], content: dict[str, Any]
) -> Iterator[str]:
    path = run.state_path(index)
    remedy = f"delete {path.parent} and run `snakemake --cores all {path}`"
    try:
        _, metadata = read_tensors(path, FORMAT, VERSION, run.digest, remedy)
    except UserError as error:
        yield str(error)
        return
    expected = {
        "is the state of another run or task": ((metadata.get("run"), metadata.get("task")), (run.name, index)),
        f"was learned on other images than those in data/{run.dataset_name}": (metadata["content"], data["content"]),
        f"was learned on other weights than those of {run.backbone_name}": (
            metadata["model"]["weights"],
            weights["fingerprint"],
        ),
    }
    yield from (f"{path} {problem}; {remedy}" for problem, (has, should) in expected.items() if has != should)
    if metadata["provenance"] not in content.get("provenance", []):
        metrics = run.folder / "metrics.json"
        yield f"{path} is not what {metrics} was computed from; delete that and run `snakemake --cores all {metrics}`"


def _problems_of_tables(reports: Path, study: str, digests: dict[Path, str]) -> Iterator[str]:
    remedy = f"run `snakemake --cores all reports/tables.tex --config study={study}`"
    with TemporaryDirectory() as folder:
        again = Path(folder)
        errors = list(_errors(lambda: aggregate(study, digests, reports=again)))
        if not errors and (again / "metrics.json").read_bytes() != (reports / "metrics.json").read_bytes():
            errors = [f"{reports}/metrics.json does not follow from the runs' metrics; delete it and {remedy}"]
        yield from errors
        shutil.copy(reports / "metrics.json", again)
        write_tables(again)
        for name in TABLES:
            if not (reports / name).exists():
                yield f"{reports / name} is missing; {remedy}"
            elif (reports / name).read_bytes() != (again / name).read_bytes():
                yield f"{reports / name} does not follow from {reports}/metrics.json; delete it and {remedy}"


def _errors(action: Callable[[], Any]) -> Iterator[str]:
    try:
        action()
    except UserError as error:
        yield str(error)


def makers(reports: Path = REPORTS) -> list[str]:
    """A line for each commit, environment and device that runs in the tables were made with, with their number."""
    counts: dict[tuple[str, str, str], int] = {}
    for run in read_study_metrics(reports).runs:
        for part in run.provenance:
            key = (part.commit, part.lock or "unknown", part.device)
            counts[key] = counts.get(key, 0) + 1
    return [
        f"{number} runs: commit {commit}, lock file {lock}, {device}"
        for (commit, lock, device), number in sorted(counts.items())
    ]
