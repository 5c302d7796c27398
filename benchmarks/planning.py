"""What the paper's whole comparison costs Snakemake: time and memory to plan it, to run it, and to find it finished.

    python benchmarks/planning.py                 # plans only
    python benchmarks/planning.py --jobs          # and runs all jobs, with a stub that only writes their outputs
    python benchmarks/planning.py --times 10      # with ten times as many seeds

Everything happens in a temporary folder.
"""

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from ntkcl.reporting.figures.figure import figures_from
from ntkcl.runs import Run, runs_of
from ntkcl.settings.files import load_study

REPOSITORY = Path(__file__).parents[1]
STUB = f"""#!{sys.executable} -ISE
import sys
from pathlib import Path

match sys.argv[1:]:
    case ["data", "fetch", name, *_]:
        files = [f"data/{{name}}/source.json"]
    case ["data", "prepare", name, *_]:
        files = [f"data/{{name}}/images.safetensors", f"data/{{name}}/manifest.csv"]
    case ["backbone", name, *_]:
        files = [f"backbones/{{name}}.safetensors"]
    case ["train", data, backbone, variant, seed, "--task", task, *_]:
        folder = f"runs/{{data}}/{{backbone}}/{{variant}}/seed{{seed}}/task{{task}}"
        files = [f"{{folder}}/state.safetensors", f"{{folder}}/losses.csv"]
    case ["evaluate", data, backbone, variant, seed, *_]:
        folder = f"runs/{{data}}/{{backbone}}/{{variant}}/seed{{seed}}"
        files = [f"{{folder}}/predictions.csv.gz", f"{{folder}}/metrics.json"]
    case ["report", "aggregate", *_]:
        files = ["reports/metrics.json"]
    case ["report", "figures", *_]:
        files = Path("figures").read_text().split()
    case ["report", "tables", *_]:
        files = [f"reports/tables.{{kind}}" for kind in ("tex", "md", "html")]
    case ["log-wandb", *_]:
        files = []
for file in map(Path, files):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("{{}}")
"""


def make_project(folder: Path, times: int) -> None:
    """The repository's pipeline, with `times` as many seeds, and a stub instead of the command `ntkcl`."""
    for part in ("params", "workflow"):
        shutil.copytree(REPOSITORY / part, folder / part)
    shutil.copy(REPOSITORY / "Snakefile", folder)
    (folder / "profiles").symlink_to("workflow/profiles")
    path = folder / "params/studies/paper.yaml"
    study = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(study | {"seeds": list(range(times * len(study["seeds"])))}, sort_keys=False))
    names = figures_from("metrics", published=True)
    (folder / "figures").write_text(
        " ".join(f"reports/figures/{name}.{kind}" for name in names for kind in ("pdf", "png"))
    )
    (folder / "bin").mkdir()
    (folder / "bin/ntkcl").write_text(STUB)
    (folder / "bin/ntkcl").chmod(0o755)


def pretend(runs: list[Run]) -> None:
    """Let data, backbones and `runs` look finished, and one task of all others, as if they came from elsewhere."""
    names = {run.dataset_name for run in runs}
    files = [Path("data") / name / part for name in names for part in ("source.json", "images.safetensors")]
    files += [Path("data") / name / "manifest.csv" for name in names]
    files += [Path("backbones") / f"{name}.safetensors" for name in {run.backbone_name for run in runs}]
    for index, run in enumerate(runs):
        tasks = run.tasks if index % 2 else run.tasks[:1]
        files += [run.folder / f"task{t.index}" / part for t in tasks for part in ("state.safetensors", "losses.csv")]
        if index % 2:
            files += [run.folder / part for part in ("predictions.csv.gz", "wandb/run")]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    for run in runs[1::2]:
        (run.folder / "metrics.json").write_text(json.dumps({"digest": run.digest}))
        (run.folder / "wandb").touch()


def measure(title: str, target: str, *options: str) -> None:
    """Plan or run `target`; print jobs, seconds, and the memory of the largest process."""
    snakemake = Path(sys.executable).with_name("snakemake")
    command = [snakemake, *(options or ["--dry-run"]), "--config", "study=paper", "device=cpu", "--", target]
    start = time.perf_counter()
    variables = os.environ | {"PATH": f"{Path.cwd() / 'bin'}:{os.environ['PATH']}", "WANDB_MODE": "offline"}
    with Path("log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=variables)
        _, status, used = os.wait4(process.pid, 0)
    seconds, output = time.perf_counter() - start, Path("log").read_text()
    if status:
        sys.exit(output[-2000:])
    jobs = [line.split()[1] for line in output.splitlines() if line.strip().startswith("total ")] or ["0"]
    print(f"{title:55} {jobs[-1]:>6} jobs {seconds:6.1f} s {used.ru_maxrss / 1024**2:5.2f} GiB", flush=True)


def files_of(folder: Path) -> str:
    """Number and bytes of the files below `folder`."""
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return f"{len(sizes)} files, {sum(sizes) / 1e6:.0f} MB in {folder}"


def main() -> None:
    """Measure the plans, or the jobs."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--jobs", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        make_project(Path(folder), options.times)
        runs = runs_of(load_study("paper"))
        print(f"{len(runs)} runs", flush=True)
        measure("nothing done", "reports/tables.tex")
        if options.jobs:
            measure("all jobs, with a stub", "reports/tables.tex", "--cores", "16")
            print(files_of(Path("runs")), files_of(Path(".snakemake")), sep="; ")
            measure("finished: nothing to do", "reports/tables.tex", "--cores", "16")
            return
        measure("nothing done, one table", "table_2")
        pretend(runs)
        measure("half done elsewhere, taken up", "reports/tables.tex")
        measure("half done, planned again", "reports/tables.tex")
        measure("half done, one dataset", "dataset_cifar100")


if __name__ == "__main__":
    main()
