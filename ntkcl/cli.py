"""The command `ntkcl`: every step of the pipeline, as a person can type it."""

import resource
import sys
from collections.abc import Callable
from pathlib import Path

import click

from ntkcl import __version__
from ntkcl.errors import UserError

# torch, timm and matplotlib take seconds to import: each command imports what it needs itself


class Commands(click.Group):
    """A group whose commands end on a `UserError` with one line and exit code 1."""

    def invoke(self, context: click.Context) -> object:
        """Run the command."""
        try:
            return super().invoke(context)
        except UserError as error:
            click.echo(f"error: {error}", err=True)
        except ModuleNotFoundError as error:
            click.echo(f"error: the package {error.name} is missing; install it with `make install`", err=True)
        sys.exit(1)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__)
def main() -> None:
    """NTK-CL and its rivals under one protocol. The commands work on the project folder that they are called in."""


def run_arguments(command: Callable) -> Callable:
    """The four names that make a run."""
    for name, kind in (("seed", int), ("variant", str), ("backbone", str), ("dataset", str)):
        command = click.argument(name, type=kind)(command)
    return command


def compute_options(command: Callable) -> Callable:
    """Where and with how many threads to compute."""
    device = click.Choice(["auto", "cpu", "cuda"])
    command = click.option("--device", type=device, default="auto", show_default=True)(command)
    return click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="CPU threads.")(command)


def compile_option(command: Callable) -> Callable:
    """Whether to compile."""
    modes = click.Choice(["default", "reduce-overhead", "max-autotune"])
    words = "A mode of torch.compile for training; starting takes minutes then."
    return click.option("--compile", "compile_mode", type=modes, help=words)(command)


def usage() -> str:
    """What this process has used so far. (Snakemake's benchmark sees time alone where jobs fork, see `ntkcl.warm`.)"""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return f"{used.ru_utime + used.ru_stime:.1f} s CPU, {used.ru_maxrss / 1024:.0f} MiB at most"


@main.group("data", cls=Commands)
def data_group() -> None:
    """The datasets: fetch, prepare, list, verify."""


@data_group.command()
@click.argument("name")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Images checked at once.")
def prepare(name: str, threads: int) -> None:
    """Make the files of dataset NAME: data/NAME/images.safetensors and manifest.csv."""
    from ntkcl import data

    data.prepare(name, threads)
    click.echo(f"data/{name} is ready")


@data_group.command("fetch")
@click.argument("names", nargs=-1, required=True)
def fetch_command(names: tuple[str, ...]) -> None:
    """Fetch the files that the datasets NAMES are made from, into downloads/ (or $NTKCL_DOWNLOADS)."""
    from ntkcl import data

    for name in names:
        data.fetch_files(name)
        click.echo(f"the files of {name} are there")


@data_group.command("list")
def list_command() -> None:
    """Every dataset: state, size, images, and what is missing."""
    from ntkcl.data.overview import show

    show()


@data_group.command("verify")
@click.argument("names", nargs=-1)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Images read at once.")
def verify_data(names: tuple[str, ...], threads: int) -> None:
    """Read every image of the datasets NAMES again (all that are prepared by default); name those that are damaged."""
    from ntkcl.data.overview import prepared, verified

    names = names or prepared()
    if broken := [name for name in names if not verified(name, threads)]:
        raise UserError(f"damaged: {', '.join(broken)}; delete data/NAME and run `ntkcl data prepare NAME`")


@main.command("backbone")
@click.argument("name")
@compute_options
def backbone_command(name: str, device: str, threads: int) -> None:
    """Make the frozen weights of backbone NAME: backbones/NAME.safetensors, pre-trained here or as published."""
    import torch

    from ntkcl.backbones.pretraining import pretrain
    from ntkcl.backbones.published import adopt
    from ntkcl.config import load_backbone
    from ntkcl.training.train import choose_device

    torch.set_num_threads(threads)
    if load_backbone(name).weights:
        adopt(name)
    else:
        pretrain(name, choose_device(device))
    click.echo(f"backbones/{name}.safetensors is ready ({usage()})")


@main.command()
@run_arguments
@click.option("--task", type=click.IntRange(0), required=True, help="Index of the task, from 0.")
@click.option("--save-every", type=click.FloatRange(0), default=5, show_default=True, help="Minutes, within the task.")
@compile_option
@compute_options
def train(
    dataset: str,
    backbone: str,
    variant: str,
    seed: int,
    task: int,
    save_every: float,
    compile_mode: str | None,
    device: str,
    threads: int,
) -> None:
    """Train one task of the run DATASET BACKBONE VARIANT SEED, from the state of the task before.

    The same command goes on where one was killed or stopped (SIGTERM, Ctrl-C). On several devices of one machine:
    torchrun --standalone --nproc-per-node 2 -m ntkcl train ...
    """
    import torch

    from ntkcl import parallel
    from ntkcl.config import resolve
    from ntkcl.training.train import choose_device, train_task

    torch.set_num_threads(threads)
    run = resolve(dataset, backbone, variant, seed)

    def on_epoch(epoch: int, epochs: int, loss: float) -> None:
        if parallel.rank() == 0:
            click.echo(f"epoch {epoch} of {epochs}: loss {loss:.4f}")

    log = train_task(run, task, choose_device(device), on_epoch, 60 * save_every, compile_mode)
    if parallel.rank() > 0:
        return
    for term, count in log.undefined().items():
        click.echo(f"warning: {term} was undefined in {count} of {len(log.rows)} steps and counted as 0", err=True)
    click.echo(f"{run.state_path(task)} is ready ({usage()})")


@main.command()
@run_arguments
@compute_options
def evaluate(dataset: str, backbone: str, variant: str, seed: int, device: str, threads: int) -> None:
    """Predict all test images with every state of a run; write predictions.csv.gz and metrics.json."""
    import torch

    from ntkcl import parallel
    from ntkcl.config import resolve
    from ntkcl.training.evaluate import evaluate as evaluate_run
    from ntkcl.training.train import choose_device

    torch.set_num_threads(threads)
    run = resolve(dataset, backbone, variant, seed)
    metrics = evaluate_run(run, choose_device(device))["metrics"]
    if parallel.rank() > 0:
        return
    accuracy = f"average accuracy {metrics['average_accuracy']:.2f}, final {metrics['final_accuracy']:.2f}"
    click.echo(f"{run.folder}/metrics.json is ready: {accuracy} ({usage()})")


@main.command("track")
@run_arguments
def track_command(dataset: str, backbone: str, variant: str, seed: int) -> None:
    """Log a finished run to Weights & Biases: offline unless you are logged in (WANDB_MODE decides)."""
    from ntkcl.config import run_folder
    from ntkcl.tracking import track

    track(run_folder(dataset, backbone, variant, seed))


@main.command()
@click.argument("study")
def aggregate(study: str) -> None:
    """Collect the metrics of all runs of STUDY in reports/metrics.json."""
    from ntkcl.config import load_study, runs_of
    from ntkcl.reporting.collect import aggregate

    aggregate(study, {run.folder: run.digest for run in runs_of(load_study(study))})


@main.command()
def tables() -> None:
    """Write reports/tables.tex and reports/tables.md from reports/metrics.json."""
    from ntkcl.reporting.tables import write_tables

    write_tables()


@main.command()
def figures() -> None:
    """Draw reports/figures/ from reports/metrics.json."""
    from ntkcl.reporting.figures import write_figures

    write_figures()


@main.command()
def show() -> None:
    """Print the table of the last study, and where everything is."""
    from ntkcl.reporting.show import show

    show()


@main.command("report")
@click.argument("study")
def report_command(study: str) -> None:
    """Tables and figures of what has finished in STUDY so far, while the rest is still running."""
    from ntkcl.config import load_study, runs_of
    from ntkcl.reporting.report import report

    report(study, {run.folder: run.digest for run in runs_of(load_study(study))})


@main.command()
@click.argument("studies", nargs=-1)
def check(studies: tuple[str, ...]) -> None:
    """Validate all settings of STUDIES, of all in params/studies/ by default; nothing is run."""
    from ntkcl.config import PARAMS, load_study, runs_of
    from ntkcl.reporting.published import paper_tables

    for study in studies or sorted(path.stem for path in (PARAMS / "studies").glob("*.yaml")):
        runs = runs_of(load_study(study))
        paper_tables(load_study(study), study)
        tasks = sum(len(run.tasks) for run in runs)
        click.echo(f"study {study}: {len(runs)} runs, {tasks} training jobs, all settings valid")


@main.command("plan")
@click.argument("study")
@click.option("--measure", is_flag=True, help="Measure the speed of each kind of run first, on the chosen device.")
@compute_options
def plan_command(study: str, measure: bool, device: str, threads: int) -> None:
    """What STUDY costs: runs and jobs to do, images to compute, hours, disk, downloads."""
    import torch

    from ntkcl.config import load_study, runs_of
    from ntkcl.planning.table import show
    from ntkcl.planning.throughput import measure_all
    from ntkcl.training.train import choose_device

    runs = runs_of(load_study(study))
    torch.set_num_threads(threads)
    for run, speed in measure_all(runs, choose_device(device)) if measure else ():
        what = f"{run.variant} with {run.backbone_name}, batches of {run.training.batch_size}"
        click.echo(f"{what}: {speed['train']:.4g} images/s in training, {speed['evaluate']:.4g} in evaluation")
    show(study)


@main.command("bench")
@click.option("--dataset", default="cifar100", show_default=True, help="Whose settings and task sizes are taken.")
@click.option("--backbone", "backbones", multiple=True, default=["vit_b16_in21k"], show_default=True)
@click.option("--variant", "variants", multiple=True, default=["ntk_cl", "finetuning", "simplecil"], show_default=True)
@click.option("--batch", "batches", type=click.IntRange(1), multiple=True, default=[16, 96], show_default=True)
@click.option("--precision", "precisions", type=click.Choice(["auto", "float32", "bfloat16"]), multiple=True)
@click.option("--seconds", default=5.0, show_default=True, help="Of each measurement, about.")
@click.option("--json", "path", type=click.Path(path_type=Path), help="A file for all numbers.")
@compile_option
@compute_options
def bench_command(
    dataset: str,
    backbones: tuple[str, ...],
    variants: tuple[str, ...],
    batches: tuple[int, ...],
    precisions: tuple[str, ...],
    seconds: float,
    path: Path | None,
    compile_mode: str | None,
    device: str,
    threads: int,
) -> None:
    """Images per second of training and evaluation, against the fastest matrix product, with random weights.

    Options may be given several times: every combination is measured. (On CPUs: --batch 4, or it takes hours.)
    """
    import torch

    from ntkcl.bench.table import bench
    from ntkcl.config import resolve
    from ntkcl.training.train import choose_device

    torch.set_num_threads(threads)
    runs = [resolve(dataset, backbone, variant, 0) for backbone in backbones for variant in variants]
    bench(runs, list(batches), list(precisions or ["auto"]), choose_device(device), seconds, path, compile_mode)


@main.command()
@click.argument("state", type=click.Path(path_type=Path))
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--backbone", type=click.Path(path_type=Path), help="Its file, if it is not backbones/NAME.safetensors.")
@click.option("--top", type=click.IntRange(1), default=1, show_default=True, help="Classes for each image.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line and image.")
@compute_options
def predict(
    state: Path, images: tuple[Path, ...], backbone: Path | None, top: int, as_json: bool, device: str, threads: int
) -> None:
    """Predict the classes of IMAGES, files or folders, with STATE, the file of a run's task or of a Classifier."""
    from ntkcl.classifier import Classifier
    from ntkcl.predict import images_in, predictions, print_rows

    model = Classifier.load(state, backbone, device, threads)
    paths = list(images_in(images))
    if failed := print_rows(predictions(model, paths, top), min(top, len(model.classes)), as_json):
        raise UserError(f"{failed} of {len(paths)} images could not be read; the lines above say why")


@main.group(cls=Commands)
def verify() -> None:
    """Compare with numbers computed elsewhere."""


@verify.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--tolerance", default=1e-8, show_default=True, help="Largest relative error that passes.")
def trajectory(file: Path, tolerance: float) -> None:
    """Replay the NTK-CL trajectory in FILE in float64; print the largest relative error of each group."""
    from ntkcl.verify import verify_trajectory

    errors = verify_trajectory(file)
    for group, error in errors.items():
        click.echo(f"{group:22} {error:.1e}")
    click.echo(f"largest {max(errors.values()):.1e}, limit {tolerance:g}")
    if bad := [group for group, error in errors.items() if not error <= tolerance]:
        raise UserError(f"{file}: {', '.join(bad)} differ by more than {tolerance:g}")


if __name__ == "__main__":
    main()
