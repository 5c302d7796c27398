"""The console script `ntkcl`. It runs in the pipeline's fork server if there is one, which saves the imports."""

import sys

from ntkcl.pipeline import fork_server


def main() -> None:
    """Run the command line, in the fork server if there is one, else in this process."""
    code = fork_server.run_in_fork_server()
    if code is None:
        from ntkcl.commands.cli import main as command

        command()
    sys.exit(code)


if __name__ == "__main__":  # the fork server itself, see `fork_server.start`
    import ntkcl.backbones.files  # noqa: F401
    from ntkcl.commands.cli import main as command

    fork_server.serve(sys.argv[1], command)
