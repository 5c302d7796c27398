"""Starting again within a task: what training was, written from time to time and when the process is told to stop."""

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
    """The process was told to stop, and has written a checkpoint."""


class Checkpoints:
    """The checkpoint of one task's training. The old one stays until the new one is whole.

    Args:
        path: the file.
        about: what it belongs to; one that says otherwise is no use.
        made: what this process makes it with (`ntkcl.storage.provenance`).
        pause: seconds between two checkpoints; one of 0 is written after every step.
    """

    def __init__(self, path: Path, about: dict[str, Any], made: dict[str, Any], pause: float) -> None:
        self.path, self.about, self.made_with, self.pause = path, about, [made], pause
        self._last, self._told = time.monotonic(), 0

    @contextmanager
    def handle_signals(self) -> Iterator[None]:
        """Take signals as a wish to stop after the present step. A second Ctrl-C stops at once."""

        def told(number: int, frame: Any) -> None:
            self._told = number
            signal.signal(signal.SIGINT, signal.default_int_handler)

        watched = SIGNALS if threading.current_thread() is threading.main_thread() else ()  # no other thread can
        before = {number: signal.signal(number, told) for number in watched}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def should_save(self, pause: float | None = None) -> tuple[bool, int]:
        """Whether to write one now, and the number of the signal that told any of the processes to stop, or 0.

        Args:
            pause: seconds since the last one, where they are not those of always.
        """
        is_due = time.monotonic() - self._last >= (self.pause if pause is None else pause)
        due, told = distributed.all_reduce_max(torch.tensor([is_due, self._told])).tolist()
        return bool(due or told), told

    def write(self, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
        """Write what training needs to go on.

        Raises:
            UserError: the file cannot be written, and the process was told to stop; else that is a warning.
        """
        self._last = time.monotonic()
        if distributed.rank() > 0:
            return
        try:
            about = {"format": FORMAT, "version": VERSION, "provenance": self.made_with} | self.about | about
            write_tensors(self.path, tensors, about)
        except UserError as error:
            if self._told:
                raise
            print(f"warning: {error}", file=sys.stderr, flush=True)

    def read(self, learner: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """What `write` wrote, or None where nothing fits; what does not fit is said on standard error.

        Args:
            learner: the learner's own tensors, whose names and shapes must be those that were written.
        """
        saved, problem = self._read(learner) if self.path.exists() else (None, "")
        if not all(distributed.all_gather_object(saved is not None)):  # all processes go on, or none
            if problem and distributed.rank() == 0:
                print(f"warning: {problem}; the task begins anew", file=sys.stderr, flush=True)
            return None
        if distributed.rank() == 0:
            steps = len(saved[0]["losses"])
            print(f"going on from {self.path}, after {steps} steps", file=sys.stderr, flush=True)
        earlier = [made for made in saved[1]["provenance"] if made not in self.made_with]
        self.made_with = [*earlier, *self.made_with]
        return saved

    def delete(self) -> None:
        """Remove the file: the task is learned."""
        if distributed.rank() == 0:
            with contextlib.suppress(OSError):
                self.path.unlink()

    def _read(self, learner: dict[str, Tensor]) -> tuple[tuple | None, str]:
        """What is in the file, or what is wrong with it."""
        try:
            tensors, about = read_tensors(self.path, FORMAT, VERSION, self.about["digest"], "")
        except UserError as error:
            return None, str(error).rstrip("; ")
        for name, now in self.about.items():
            if about.get(name) != now:
                then = str(about.get(name))[:12]
                return None, f"{self.path} was made with other {name.replace('_', ' ')} ({then}, now {str(now)[:12]})"
        shapes = {name: tensor.shape for name, tensor in learner.items()}
        if {name: tensor.shape for name, tensor in strip_prefix("learner", tensors).items()} != shapes:
            return None, f"{self.path} holds other tensors than this learner"
        return (tensors, about), ""
