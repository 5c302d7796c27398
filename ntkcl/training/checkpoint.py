"""Checkpoints within a task: written from time to time, and when a signal asks the process to stop."""

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ntkcl.devices import distributed
from ntkcl.errors import UserError
from ntkcl.storage.tensors import read_tensors, strip_prefix, write_tensors

FORMAT, VERSION = "ntkcl-checkpoint", 1
SIGNALS = (signal.SIGTERM, signal.SIGINT)  # clusters send the first before they kill, Ctrl-C the second


class Stopped(UserError):
    """A signal asked the process to stop, and it has written a checkpoint."""


class Checkpoints:
    """The checkpoint of one task's training. The old one stays until the new one is whole.

    Args:
        path: the file.
        metadata: what the checkpoint belongs to; a file with other metadata is ignored.
        made: provenance of this process (`ntkcl.storage.provenance`).
        interval: seconds between two checkpoints; 0 writes one after every step.
    """

    def __init__(self, path: Path, metadata: dict[str, Any], made: dict[str, Any], interval: float) -> None:
        self.path, self.metadata, self.made_with, self.interval = path, metadata, [made], interval
        self._last, self._signal = time.monotonic(), 0

    @contextmanager
    def handle_signals(self) -> Iterator[None]:
        """Let signals stop training after the present step. A second Ctrl-C stops at once."""

        def remember(number: int, frame: Any) -> None:
            self._signal = number
            signal.signal(signal.SIGINT, signal.default_int_handler)

        handled = SIGNALS if threading.current_thread() is threading.main_thread() else ()  # no other thread can
        before = {number: signal.signal(number, remember) for number in handled}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def should_save(self, interval: float | None = None) -> tuple[bool, int]:
        """Return whether to write one now, and the number of the signal that any of the processes got, or 0.

        Args:
            interval: seconds since the last one; that of the constructor if not given.
        """
        is_due = time.monotonic() - self._last >= (self.interval if interval is None else interval)
        due, number = distributed.all_reduce_max(torch.tensor([is_due, self._signal])).tolist()
        return bool(due or number), number

    def write(self, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
        """Write what training needs to resume.

        Raises:
            UserError: the file cannot be written, and a signal asked the process to stop; else that is a warning.
        """
        self._last = time.monotonic()
        if distributed.rank() > 0:
            return
        try:
            header = {"format": FORMAT, "version": VERSION, "provenance": self.made_with}
            write_tensors(self.path, tensors, header | self.metadata | metadata)
        except UserError as error:
            if self._signal:
                raise
            print(f"warning: {error}", file=sys.stderr, flush=True)

    def read(self, learner: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Return what `write` wrote, or None if nothing fits; the reason is printed to standard error.

        Args:
            learner: the learner's own tensors, whose names and shapes must be the written ones.
        """
        saved, problem = self._read(learner) if self.path.exists() else (None, "")
        if not all(distributed.all_gather_object(saved is not None)):  # all processes resume, or none
            if problem and distributed.rank() == 0:
                print(f"warning: {problem}; the task starts from its beginning", file=sys.stderr, flush=True)
            return None
        if distributed.rank() == 0:
            steps = len(saved[0]["losses"])
            print(f"resuming from {self.path}, after {steps} steps", file=sys.stderr, flush=True)
        earlier = [made for made in saved[1]["provenance"] if made not in self.made_with]
        self.made_with = [*earlier, *self.made_with]
        return saved

    def delete(self) -> None:
        """Delete the file: the task is learned."""
        if distributed.rank() == 0:
            with contextlib.suppress(OSError):
                self.path.unlink()

    def _read(self, learner: dict[str, Tensor]) -> tuple[tuple | None, str]:
        """Return the content of the file, or the problem with it."""
        try:
            tensors, metadata = read_tensors(self.path, FORMAT, VERSION, self.metadata["digest"], "")
        except UserError as error:
            return None, str(error).rstrip("; ")
        for name, now in self.metadata.items():
            if metadata.get(name) != now:
                then = str(metadata.get(name))[:12]
                return (
                    None,
                    f"{self.path} was written with other {name.replace('_', ' ')} ({then}, now {str(now)[:12]})",
                )
        shapes = {name: tensor.shape for name, tensor in learner.items()}
        if {name: tensor.shape for name, tensor in strip_prefix("learner", tensors).items()} != shapes:
            return None, f"{self.path} has other tensors than this learner"
        return (tensors, metadata), ""
