"""Parts that commands share: errors of one line, arguments, options."""

import io
import resource
import sys
from collections.abc import Callable

import click

from ntkcl.errors import UserError


class Commands(click.Group):
    """A group whose commands end on a `UserError` with one line and exit code 1."""

    def invoke(self, context: click.Context) -> object:
        """Run the command."""
        print_with_escapes()
        try:
            return super().invoke(context)
        except UserError as error:
            click.echo(f"error: {error}", err=True)
        except ModuleNotFoundError as error:
            click.echo(f"error: the package {error.name} is missing; install it with `make install`", err=True)
        except RuntimeError as error:
            if type(error).__name__ != "OutOfMemoryError":  # of torch, which need not be imported
                raise
            remedy = "end other processes on it (nvidia-smi), or let fewer jobs share it (jobs_per_gpu)"
            click.echo(f"error: the GPU has no memory left ({str(error).splitlines()[0]}); {remedy}", err=True)
        sys.exit(1)


def print_with_escapes() -> None:
    """Let output that is not UTF-8, as in the locale C, have escapes instead of an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors != "backslashreplace":
            stream.reconfigure(errors="backslashreplace")


def run_arguments(command: Callable) -> Callable:
    """Add the four names of a run as arguments."""
    for name, kind in (("seed", int), ("variant", str), ("backbone", str), ("dataset", str)):
        command = click.argument(name, type=kind)(command)
    return command


def compute_options(command: Callable) -> Callable:
    """Add the options for the device and the number of threads."""
    devices = "auto, cpu, cuda, or cuda:N."
    command = click.option("--device", default="auto", show_default=True, help=devices)(command)
    words = "CPU threads, divided among torchrun's processes."
    return click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help=words)(command)


def use_threads(threads: int) -> None:
    """Let torch compute with this number of threads, or this process's part of it."""
    import torch

    from ntkcl.devices.distributed import by_torchrun

    torch.set_num_threads(max(1, threads // (by_torchrun("LOCAL_WORLD_SIZE") or 1)))


def compile_option(command: Callable) -> Callable:
    """Add the option to compile."""
    modes = click.Choice(["default", "reduce-overhead", "max-autotune"])
    words = "A mode of torch.compile for training; starting takes minutes then."
    return click.option("--compile", "compile_mode", type=modes, help=words)(command)


def usage() -> str:
    """CPU time and memory of this process. (Snakemake's benchmark does not count the fork server's children.)"""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return f"{used.ru_utime + used.ru_stime:.1f} s CPU, {used.ru_maxrss / 1024:.0f} MiB at most"
