"""`ntkcl bench`: speeds by run, batch size and precision, as a table and as JSON."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.table import Table

from ntkcl.bench.speed import EVALUATION_BATCH, Speed, evaluation_speed, matmul_ceiling, training_speed
from ntkcl.devices.compute import precision_on
from ntkcl.runs import Run
from ntkcl.storage.files import write_json
from ntkcl.storage.provenance import device_name, provenance

COLUMNS = ("images/s", "range", "GFLOP/image", "TFLOP/s", "of ceiling", "peak GiB", "kept GiB")
WIDTH = 150  # of the table in a file or a pipe


def bench(
    runs: list[Run],
    batches: list[int],
    precisions: list[str],
    device: torch.device,
    seconds: float = 5.0,
    path: Path | None = None,
    compile_mode: str | None = None,
) -> None:
    """Measure every run with every batch size and precision. Print a table, and write it to `path` if given."""
    console = Console()
    if not console.is_terminal:
        console.width = WIDTH
    precisions = list(
        dict.fromkeys(precision_on(device, _with(runs[0], precision=name).training.precision) for name in precisions)
    )
    ceilings = {precision: matmul_ceiling(device, precision, min(1.0, seconds)) for precision in precisions}
    threads = f", threads: {torch.get_num_threads()}" if device.type == "cpu" else ""
    console.print(f"{device_name(device.type)}{threads}, torch {torch.__version__}")
    for precision, ceiling in ceilings.items():
        console.print(f"ceiling, {precision}: {ceiling / 1e12:.3g} TFLOP/s in the fastest of several matrix products")
    content = {"ceilings": ceilings, "threads": torch.get_num_threads(), "compile": compile_mode}
    content |= {"provenance": provenance(device.type, "float32")}
    rows = []
    for row in _rows(runs, batches, ceilings, device, seconds, compile_mode, console):
        rows.append(row)
        kind = f"{row['part']} {row['variant']}, batch {row['batch']}, {row['precision']}"
        console.print(f"{kind}: {_short(row['images_per_second'])} images/s")
        if path:  # written after each row: a measurement that is stopped leaves what it has
            write_json(path, content | {"rows": rows})
    console.print(_table(rows))
    console.print(
        "of ceiling: operations / ceiling; kept: stored by the forward passes of a step for the backward pass"
    )


def _rows(
    runs: list[Run],
    batches: list[int],
    ceilings: dict[str, float],
    device: torch.device,
    seconds: float,
    compile_mode: str | None,
    console: Console,
) -> Iterator[dict[str, Any]]:
    for run, precision in product(runs, ceilings):
        kind = {"backbone": run.backbone_name, "variant": run.variant, "precision": precision}
        with console.status(" ".join(kind.values())):
            for batch in batches:
                changed = _with(run, batch_size=batch, precision=precision)
                if speed := training_speed(changed, device, seconds, compile_mode):
                    yield kind | {"part": "train"} | _numbers(speed, ceilings[precision])
            size = (
                EVALUATION_BATCH if device.type == "cuda" else min(EVALUATION_BATCH, *batches)
            )  # on a CPU it would take minutes
            speed = evaluation_speed(_with(run, precision=precision), device, seconds, size)
            yield kind | {"part": "evaluate"} | _numbers(speed, ceilings[precision])


def _numbers(speed: Speed, ceiling: float) -> dict[str, Any]:
    per_second = speed.rate * speed.operations
    return {
        "batch": speed.batch,
        "images_per_second": speed.rate,
        "rates": speed.rates,
        "operations_per_image": speed.operations,
        "operations_per_second": per_second,
        "of_ceiling": per_second / ceiling,
        "memory": speed.memory,
        "kept_for_backward": speed.kept,
    }


def _with(run: Run, **training: Any) -> Run:
    return replace(run, training=run.training.model_copy(update=training))


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table("part", "backbone", "variant", "batch", "precision", box=box.SIMPLE_HEAD)
    for column in COLUMNS:
        table.add_column(column, justify="right")
    for row in sorted(rows, key=lambda row: row["part"], reverse=True):
        names = (row["part"], row["backbone"], row["variant"], str(row["batch"]), row["precision"])
        rates = [_short(rate) for rate in (row["images_per_second"], min(row["rates"]), max(row["rates"]))]
        cells = [rates[0], f"{rates[1]}-{rates[2]}", _short(row["operations_per_image"] / 1e9)]
        cells += [_short(row["operations_per_second"] / 1e12), f"{row['of_ceiling']:.0%}"]
        table.add_row(*names, *cells, *(f"{row[name] / 2**30:.1f}" for name in ("memory", "kept_for_backward")))
    return table


def _short(value: float) -> str:
    """Format with three digits, or without decimals."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
