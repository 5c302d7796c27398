"""`python -m ntkcl`, which `torchrun` starts."""

from ntkcl.commands.cli import main

main()
