"""Parts that commands share: errors of one line, arguments, options."""

import os
import resource
import sys
from collections.abc import Callable

import click

from ntkcl.errors import UserError


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


def run_arguments(command: Callable) -> Callable:
    """Add the four names of a run as arguments."""
    for name, kind in (("seed", int), ("variant", str), ("backbone", str), ("dataset", str)):
        command = click.argument(name, type=kind)(command)
    return command


def compute_options(command: Callable) -> Callable:
    """Add the options for the device and the number of threads."""
    device = click.Choice(["auto", "cpu", "cuda"])
    command = click.option("--device", type=device, default="auto", show_default=True)(command)
    words = "CPU threads, divided among torchrun's processes."
    return click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help=words)(command)


def use_threads(threads: int) -> None:
    """Let torch compute with this number of threads, or this process's part of it."""
    import torch

    torch.set_num_threads(max(1, threads // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))


def compile_option(command: Callable) -> Callable:
    """Add the option to compile."""
    modes = click.Choice(["default", "reduce-overhead", "max-autotune"])
    words = "A mode of torch.compile for training; starting takes minutes then."
    return click.option("--compile", "compile_mode", type=modes, help=words)(command)


def usage() -> str:
    """CPU time and memory of this process. (Snakemake's benchmark does not count the fork server's children.)"""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return f"{used.ru_utime + used.ru_stime:.1f} s CPU, {used.ru_maxrss / 1024:.0f} MiB at most"
