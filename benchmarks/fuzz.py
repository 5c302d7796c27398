"""Read damaged files of every kind: python -m benchmarks.fuzz --inputs 100000

Files that the readers accept are damaged at random with hypothesis. Each must end in a result or in a `UserError` of
one line, within 10 s and with less than 1 GB. Prints the numbers by reader; an input that fails is written to /tmp.
"""

import argparse
import contextlib
import io
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as with_seed

from ntkcl.bench.memory import forget_peak, peak
from ntkcl.errors import UserError
from tests.helpers.foreign_bytes import Reader, damaged, readers

MAX_SECONDS, MAX_BYTES = 10, 10**9
SETTINGS = settings(deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
CPU = torch.device("cpu")


@dataclass
class Figures:
    """What the inputs of a reader did."""

    inputs: int = 0
    refused: int = 0
    seconds: float = 0.0
    memory: int = 0


def fuzz(name: str, reader: Reader, inputs: int, seed: int) -> Figures:
    """Let `reader` read `inputs` damaged files.

    Raises:
        AssertionError: one of them ended in something else than a result or one line.
    """
    figures, path = Figures(), Path(tempfile.mkdtemp(prefix="ntkcl-fuzz-")) / reader.name

    @settings(SETTINGS, max_examples=inputs)
    @with_seed(seed)
    @given(damaged(reader.examples))
    def read(content: bytes) -> None:
        path.write_bytes(content)
        figures.inputs += 1
        forget_peak(CPU)
        begin, before = time.perf_counter(), peak(CPU)
        try:
            with _limited():
                reader.read(path)
        except UserError as error:
            figures.refused += 1
            assert len(str(error).splitlines()) == 1, str(error)
        except BaseException as error:
            kept = Path(tempfile.gettempdir()) / f"ntkcl-fuzz-{name.replace(' ', '-').replace('/', '-')}"
            kept.write_bytes(content)
            raise AssertionError(f"{name}: {type(error).__name__}: {error} (the input is {kept})") from error
        figures.seconds = max(figures.seconds, time.perf_counter() - begin)
        figures.memory = max(figures.memory, peak(CPU) - before)
        assert figures.memory < MAX_BYTES, f"{name}: {figures.memory / 1e6:.0f} MB"

    read()
    return figures


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    """Stop after `MAX_SECONDS`, and swallow warnings."""

    def stop(*_: Any) -> None:
        raise TimeoutError(f"more than {MAX_SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(MAX_SECONDS)
    try:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def main() -> None:
    """Fuzz all readers, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000, help="of all readers together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reader", action="append", help="name of a reader; all by default")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="ntkcl-fuzz-"))
    os.chdir(folder)
    chosen = {name: each for name, each in readers(folder).items() if name in (arguments.reader or [name])}
    print(f"{'reader':28} {'inputs':>8} {'refused':>8} {'longest':>9} {'most memory':>12}")
    total, failures = 0, []
    for name, reader in chosen.items():
        try:
            found = fuzz(name, reader, -(-arguments.inputs // len(chosen)), arguments.seed)
        except AssertionError as error:
            failures.append(str(error).splitlines()[0])
            continue
        total += found.inputs
        numbers = f"{found.inputs:8} {found.refused:8} {found.seconds:7.2f} s {found.memory / 1e6:9.0f} MB"
        print(f"{name:28} {numbers}", flush=True)
    print(f"{'all':28} {total:8}", *failures, sep="\n")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
