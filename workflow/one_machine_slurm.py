"""A real Slurm on this machine alone, for trying the profile and for the tests; needs root, slurm-wlm and munge.

    python workflow/one_machine_slurm.py start   # then: snakemake --profile workflow/profiles/slurm ...
    python workflow/one_machine_slurm.py stop

Its daemons listen on the loopback interface only and keep no accounting. It has one node, "localhost", with this
machine's cores. A machine that has a Slurm already keeps it: the command refuses. Debian: apt-get install
--no-install-recommends slurm-wlm munge.
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

STATE = Path("/run/ntkcl-slurm")
CONFIG = Path("/etc/slurm/slurm.conf")  # an exported SLURM_CONF does not reach the steps of a job
MARK = "# written by ntkcl's workflow/one_machine_slurm.py"
DAEMONS = ("munged", "slurmctld", "slurmd")  # in the order of their start
MEGABYTE = 2**20
FOLDERS = f"{os.environ['PATH']}:/usr/sbin:/sbin"  # where the daemons may be


def start(cpus: int | None = None) -> None:
    """Start the daemons and wait until the node, with all cores or with `cpus`, takes jobs."""
    problem = _problem()
    if problem:
        sys.exit(f"error: {problem}")
    stop()
    STATE.mkdir(mode=0o755)
    (STATE / "munge.key").write_bytes(secrets.token_bytes(128))
    (STATE / "munge.key").chmod(0o400)
    CONFIG.parent.mkdir(exist_ok=True)
    CONFIG.write_text(_configuration(cpus or os.cpu_count()))
    for name in DAEMONS:
        _start_daemon(name)
    _wait_for("the node", lambda: _output("sinfo", "-h", "-o", "%t") == "idle")


def _start_daemon(name: str) -> None:
    files = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munge.pid", "log-file": "munge.log"}
    options = [f"--{option}={STATE / file}" for option, file in (files | {"seed-file": "munge.seed"}).items()]
    command = ["munged", "--foreground", "--force", *options] if name == "munged" else [name, "-D"]
    command[0] = shutil.which(name, path=FOLDERS)
    with (STATE / f"{name}.out").open("ab") as output:
        started = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, process_group=0)
    (STATE / f"{name}.started").write_text(str(started.pid))
    if name == "munged":
        _wait_for(name, (STATE / "munge.socket").exists)


def _stop_daemon(name: str) -> None:
    path = STATE / f"{name}.started"
    if not path.exists():
        return
    pid = int(path.read_text())
    if _runs(pid, name):  # else the number may be that of another process by now
        os.kill(pid, signal.SIGTERM)
        _wait_for(f"the end of {name}", lambda: not _runs(pid, name))
    path.unlink()


def stop() -> None:
    """Cancel all jobs, stop what `start` has started, and delete its files."""
    if (STATE / "slurmctld.started").exists() and _output("squeue", "-h", "-o", "%i"):
        subprocess.run(["scancel", "--signal=KILL", "--full", "--user=root"], stderr=subprocess.DEVNULL, timeout=60)
        subprocess.run(["scancel", "--user=root"], stderr=subprocess.DEVNULL, timeout=60)
        with suppress(SystemExit):
            _wait_for("the end of all jobs", lambda: not _output("squeue", "-h", "-o", "%i"))
    for name in reversed(DAEMONS):
        _stop_daemon(name)
    if CONFIG.exists() and CONFIG.read_text().startswith(MARK):
        CONFIG.unlink()
    shutil.rmtree(STATE, ignore_errors=True)


def _problem() -> str:
    """Why a Slurm cannot be started, or nothing."""
    missing = [name for name in (*DAEMONS, "sbatch") if not shutil.which(name, path=FOLDERS)]
    if os.geteuid():
        return "only root can start the daemons"
    if missing:
        return f"{', '.join(missing)} not found; Debian: apt-get install --no-install-recommends slurm-wlm munge"
    if CONFIG.exists() and not CONFIG.read_text().startswith(MARK):
        return f"{CONFIG} is there: this machine has a Slurm"
    return ""


def _configuration(cpus: int) -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // MEGABYTE - 256
    ports = [_free_port(), _free_port()]
    return f"""{MARK}
ClusterName=one_machine
SlurmctldHost={socket.gethostname()}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={STATE}/munge.socket
CommunicationParameters=NoAddrCache,NoInAddrAny,NoCtldInAddrAny
StateSaveLocation={STATE}/state
SlurmdSpoolDir={STATE}/spool
SlurmctldPidFile={STATE}/slurmctld.pid
SlurmdPidFile={STATE}/slurmd.pid
SlurmctldLogFile={STATE}/slurmctld.log
SlurmdLogFile={STATE}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/filetxt
JobCompLoc={STATE}/jobs.txt
MpiDefault=none
ReturnToService=2
SlurmdTimeout=30
KillWait=15
SchedulerParameters=batch_sched_delay=1,sched_interval=5
NodeName=localhost NodeAddr=127.0.0.1 NodeHostname={socket.gethostname()} CPUs={cpus} RealMemory={memory} State=UNKNOWN
PartitionName=all Nodes=localhost Default=YES MaxTime=INFINITE State=UP
"""


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout.strip()


def _runs(pid: int, name: str) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False
    return status.startswith(f"Name:\t{name}") and "State:\tZ" not in status


def _wait_for(what: str, is_there: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not is_there():
        if time.monotonic() > end:
            sys.exit(f"error: {what} did not come within {seconds:.0f} s; see the logs in {STATE}")
        time.sleep(0.2)


if __name__ == "__main__":
    commands = {"start": start, "stop": stop}
    if len(sys.argv) != 2 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    commands[sys.argv[1]]()
