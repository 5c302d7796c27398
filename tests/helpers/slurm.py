"""A real Slurm on this machine for the tests that need one."""

import importlib.util
import os
import shutil
from pathlib import Path

from tests.helpers.projects import REPOSITORY

SLURM_CONF = Path("/etc/slurm/slurm.conf")
_spec = importlib.util.spec_from_file_location("one_machine_slurm", REPOSITORY / "workflow/one_machine_slurm.py")
one_machine = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(one_machine)

COMMANDS = (*one_machine.DAEMONS, "sbatch")
CAN_START = os.geteuid() == 0 and all(shutil.which(name, path=one_machine.FOLDERS) for name in COMMANDS)
HAS_OTHER = SLURM_CONF.exists() and one_machine.MARK not in SLURM_CONF.read_text()
REASON = "no Slurm can be started here (root; Debian: apt-get install --no-install-recommends slurm-wlm munge)"
