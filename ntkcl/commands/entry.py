"""The console script `ntkcl`. It runs in the pipeline's fork server if there is one, which saves the imports."""

import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib import import_module

from ntkcl.pipeline import fork_server

MODULES_OF_JOBS = (  # with all that they import, as torch, timm and pandas
    "ntkcl.training.train",
    "ntkcl.training.evaluate",
    "ntkcl.pipeline.wandb_log",
    "wandb",
)


def main() -> None:
    """Run the command line, in the fork server if there is one, else in this process."""
    code = fork_server.run_in_fork_server()
    if code is None:
        from ntkcl.commands.cli import main as command

        command()
    sys.exit(code)


def _load() -> Callable[[], None]:
    """Import the modules of jobs, and return the command line."""
    from ntkcl.commands.cli import main as command
    from ntkcl.registry import METHODS, SOURCES
    from ntkcl.storage import provenance

    loads = [partial(import_module, name) for name in MODULES_OF_JOBS]
    loads += [partial(registry.load, name) for registry in (METHODS, SOURCES) for name in registry.names()]
    for load in loads:
        with suppress(Exception):  # a missing package, a broken file of a method: the job that needs it reports it
            load()
    with suppress(Exception):
        provenance.code_digest(), provenance.commit()  # of the code that the jobs will run
    return command


if __name__ == "__main__":  # the fork server itself, see `fork_server.start`
    from ntkcl.commands.options import print_with_escapes

    print_with_escapes()
    fork_server.serve(sys.argv[1], _load)
