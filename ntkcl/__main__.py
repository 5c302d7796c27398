"""`python -m ntkcl`, which `torchrun` starts."""

from ntkcl.cli import main

main()
