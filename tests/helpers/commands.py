"""The command line, in this process or in one of its own, and the errors that it prints."""

import subprocess
import sys
from subprocess import CompletedProcess

from click.testing import CliRunner

from ntkcl.commands.cli import main


def ntkcl(*arguments: str) -> CompletedProcess[str]:
    """Run the command line in this process, which saves the imports."""
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    return CompletedProcess(arguments, result.exit_code, result.stdout, result.stderr)


def ntkcl_process(*arguments: str, before: tuple[str, ...] = (), **options) -> CompletedProcess[str]:
    """Run the command line in a process of its own; `before` is a command that starts it."""
    command = [*before, sys.executable, "-m", "ntkcl.commands.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, **options)


def one_line(done: CompletedProcess[str]) -> str:
    """The error of a command that failed as it should: with one line."""
    assert done.returncode == 1, done.stderr
    errors = [line for line in done.stderr.splitlines() if line]
    assert len(errors) == 1, done.stderr
    assert errors[0].startswith("error: ")
    return errors[0]
