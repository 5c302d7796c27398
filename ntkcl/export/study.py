"""A finished study in one folder: results, settings, and what is needed to check them and to make them again.

`ro-crate-metadata.json` describes the folder for other programs: https://w3id.org/ro/crate
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from rocrate.model.contextentity import ContextEntity
from rocrate.rocrate import ROCrate

from ntkcl.errors import UserError
from ntkcl.export.new_folder import copy, new_folder
from ntkcl.reporting.study_metrics import REPORTS, StudyMetrics, read_study_metrics
from ntkcl.runs import run_folder
from ntkcl.settings.files import PARAMS, load_dataset
from ntkcl.storage.files import write_text
from ntkcl.verification.results import problems_of_report

PARTS = {
    "reports/": "Tables, figures, and metrics.json with all numbers in them",
    "runs/": "Of each run: metrics.json, predictions.csv.gz, the losses of each step, kernel measures",
    "params/": "All settings",
    "data/": "Of each dataset: manifest.csv with the name, class, split and sha256 of every image, without the images",
    "requirements.lock": "The Python packages, with hashes",
}
OF_A_RUN = ("metrics.json", "predictions.csv.gz", "kernel.json", "task*/losses.csv", "task*/state.safetensors")


def export_study(folder: Path, with_states: bool = False) -> int:
    """Write the study that `reports/` shows to a new folder, after `ntkcl verify report` found nothing wrong.

    Args:
        folder: the folder.
        with_states: also the trained states.

    Returns:
        The number of runs in it.

    Raises:
        UserError: the tables are missing, something does not belong to them, or the folder exists or cannot be written.
    """
    content = read_study_metrics()
    if problem := next(problems_of_report(), None):
        raise UserError(f"{problem} (`ntkcl verify report` shows all problems)")
    with new_folder(folder) as new:
        for path in _files(content, with_states):
            copy(path, new / path)
        write_text(new / "README.md", _readme(content, with_states))
        _describe(content, new)
    return len(content.runs)


def _files(content: StudyMetrics, with_states: bool) -> Iterator[Path]:
    """Paths of all files of the study that are exported."""
    yield from (path for path in sorted(REPORTS.glob("*")) if path.suffix in {".md", ".tex", ".html", ".json"})
    yield from sorted(REPORTS.glob("figures/*"))
    yield from (path for path in sorted(PARAMS.rglob("*")) if path.is_file())
    yield from (path for path in [Path("requirements.lock")] if path.exists())
    yield from (Path("data") / name / "manifest.csv" for name in sorted({run.run.dataset for run in content.runs}))
    for run in content.runs:
        of_run = run_folder(run.run.dataset, run.run.backbone, run.run.variant, run.run.seed)
        patterns = OF_A_RUN if with_states else OF_A_RUN[:-1]
        yield from (path for pattern in patterns for path in sorted(of_run.glob(pattern)))


def _readme(content: StudyMetrics, with_states: bool) -> str:
    made, seeds = content.provenance, ", ".join(map(str, content.seeds))
    missing = f", {len(content.missing)} more have not finished" if content.missing else ""
    parts = "\n".join(f"- `{name}`: {text}" for name, text in PARTS.items())
    states = " Each run has the states of its tasks." if with_states else ""
    terms = "\n".join(
        f"- {dataset.label}: {' '.join(dataset.terms.split()) or 'terms not stated'}"
        for dataset in map(load_dataset, sorted({run.run.dataset for run in content.runs}))
    )
    return f"""# {content.title}

The study `{content.study}` of ntkcl: {len(content.runs)} runs{missing}; seeds {seeds}.
Made on {", ".join(made.devices)}; commits {", ".join(made.commits)}; lock files {", ".join(made.locks) or "unknown"}.
Tables: [reports/tables.md](reports/tables.md).

{parts}

Every number in the tables follows from the predictions.{states}

## Make it again

In a checkout of ntkcl at the commit above (a "+" means that the code had changes besides it):

```sh
make tables STUDY={content.study}
ntkcl verify report
```

## Terms of the images

{terms}
"""


def _describe(content: StudyMetrics, folder: Path) -> None:
    """Write `ro-crate-metadata.json`; its date is that of the tables, so that equal studies give equal bytes."""
    crate = ROCrate()
    crate.name = content.title
    crate.description = f"Tables, figures, predictions and settings of the study {content.study}"
    crate.datePublished = datetime.fromtimestamp((REPORTS / "tables.md").stat().st_mtime, UTC).isoformat("T", "seconds")
    crate.license = "The terms of the images are in README.md; none are stated for the results"
    for name, text in (PARTS | {"README.md": "What this is, and how to make it again"}).items():
        if (folder / name).exists():
            add = crate.add_directory if name.endswith("/") else crate.add_file
            add(dest_path=name, properties={"description": text})
    versions = {name: ", ".join(found) for name, found in content.provenance.versions.items()}
    about = {
        "@type": "SoftwareApplication",
        "name": "ntkcl",
        "softwareVersion": ", ".join(content.provenance.commits),
        "softwareRequirements": [f"{name} {version}" for name, version in versions.items()],
    }
    software = crate.add(ContextEntity(crate, "#ntkcl", properties=about))
    crate.add_action(software, "#study", result=[crate.root_dataset], properties={"name": f"study {content.study}"})
    crate.metadata.write(folder)
