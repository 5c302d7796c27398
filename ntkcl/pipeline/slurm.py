"""What a pipeline asks a Slurm cluster before it submits jobs: are earlier ones there, and will the new ones start."""

import math
import re
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ntkcl.errors import UserError

RUN_ID = re.compile(r"(.*_)?[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")  # Snakemake's jobs have such a name
POLL_SECONDS = 10.0
_growth = {"mem_mb": math.inf, "runtime": math.inf}  # largest factors of later tries


@dataclass(frozen=True)
class Nodes:
    """Nodes of one kind in a partition.

    Args:
        partition: its name.
        cpus: cores of a node.
        mem_mb: memory of a node.
        gpus: GPUs of a node.
        minutes: the longest time that a job may ask for; None: any.
        is_default: whether jobs that name no partition go to this one.
    """

    partition: str
    cpus: int
    mem_mb: int
    gpus: int
    minutes: int | None
    is_default: bool

    def lacks(self, threads: int, mem_mb: int, gpus: int) -> str:
        """What a job asks for and these nodes have not: GPUs, CPUs, memory, or nothing."""
        lacking = {"GPUs": gpus > self.gpus, "CPUs": threads > self.cpus, "memory": mem_mb > self.mem_mb}
        return next((name for name, is_lacking in lacking.items() if is_lacking), "")


def use_squeue_without_accounting(workflow: Any) -> None:
    """Let the executor ask `squeue` for its jobs' states where the cluster keeps no accounting, which `sacct` reads."""
    if "accounting_storage/none" in (_output("scontrol", "show", "config") or ""):
        workflow.executor_settings.status_command = "squeue"


def wait_for_earlier_jobs(folder: Path, poll_seconds: float = POLL_SECONDS) -> None:
    """Wait until no job is in the queue that a Snakemake in this folder has submitted and left, when it was killed.

    Without that, the same tasks would be computed twice at the same time.
    """
    said = None  # whether it was said that the queue cannot be read
    while (jobs := earlier_jobs(folder)) != []:
        if said != (jobs is None):
            said = jobs is None
            print(_waiting(jobs), file=sys.stderr, flush=True)
        time.sleep(poll_seconds)


def _waiting(jobs: list[str] | None) -> str:
    if jobs is None:
        return "waiting for Slurm: squeue fails, and jobs of an earlier start in this folder may be in the queue"
    return (
        f"waiting for the end of {len(jobs)} jobs that an earlier start in this folder has left in the queue; "
        f"they keep what they finish. To cancel them (they save what they have): scancel {' '.join(jobs)}"
    )


def earlier_jobs(folder: Path) -> list[str] | None:
    """The numbers of Snakemake's jobs in the queue whose working directory is `folder`; None if `squeue` fails."""
    if not shutil.which("squeue"):
        return []
    output = _output("squeue", "--me", "-h", "-o", "%i\t%j\t%Z")
    if output is None:
        return None
    jobs = (parts for line in output.splitlines() if len(parts := line.split("\t")) == 3)
    return [
        number for number, name, path in jobs if RUN_ID.fullmatch(name) and Path(path).resolve() == folder.resolve()
    ]


def check_that_jobs_fit(jobs: Iterable[Any]) -> None:
    """Compare what the planned jobs ask for with the nodes of their partitions, and let later tries ask for no more.

    Args:
        jobs: Snakemake's.

    Raises:
        UserError: a job would wait in the queue for ever.
    """
    nodes, chains = _nodes(), defaultdict(list)
    asks: dict[str, dict[str, tuple]] = defaultdict(dict)  # by what is lacking, then by rule
    for job in (each for each in jobs if not each.is_local):
        partition = job.resources.get("slurm_partition")
        possible = _of(nodes, partition)
        threads, memory, gpus = job.threads, *(int(job.resources.get(name) or 0) for name in ("mem_mb", "gpu"))
        if gpus and any(each.gpus >= gpus for each in possible):
            possible = [each for each in possible if each.gpus >= gpus]
        lacking = [each.lacks(threads, memory, gpus) for each in possible]
        if possible and all(lacking):
            asks[lacking[0]].setdefault(job.rule.name, (threads, memory, gpus, possible, partition))
        elif possible and memory:
            _growth["mem_mb"] = min(_growth["mem_mb"], max(each.mem_mb for each in possible) / memory)
        run = tuple(value for name, value in job.wildcards.items() if name != "task")
        chains[job.group or job.rule.name, run if job.group else id(job), partition].append(job)
    for what in sorted(asks):
        _explain(what, asks[what])
    for (*_, partition), members in chains.items():  # those of a group share an allocation, one after another
        _check_time(members, partition, nodes)


def _explain(what: str, asks: dict[str, tuple]) -> None:
    threads, memory, gpus, possible, partition = next(iter(asks.values()))
    cpus, mem_mb = max(each.cpus for each in possible), max(each.mem_mb for each in possible)
    most = max(each.gpus for each in possible)
    texts = {  # what is asked for, and what to do
        "GPUs": (f"{gpus} GPUs (at most {most})", f"--config study=NAME gpus_per_job={most}")
        if most
        else ("GPUs", "compute on CPUs: --config study=NAME device=cpu"),
        "CPUs": (f"{threads} CPUs (at most {cpus})", f"--set-threads {' '.join(f'{rule}={cpus}' for rule in asks)}"),
        "memory": (
            f"{memory} MB of memory (at most {mem_mb})",
            f"--set-resources {' '.join(f'{rule}:mem_mb={mem_mb}' for rule in asks)}",
        ),
    }
    asked, remedy = texts[what]
    ask = "ask" if len(asks) > 1 else "asks"
    raise UserError(
        f"{' and '.join(asks)} {ask} for {asked}; no node of {_named(partition)} has them (sinfo); {remedy}"
    )


def _check_time(jobs: list[Any], partition: str | None, nodes: list[Nodes]) -> None:
    limits = [each.minutes for each in _of(nodes, partition)]
    minutes = sum(_minutes_of(job) for job in jobs)
    if not limits or None in limits or not minutes:
        return
    most = max(limits)
    if minutes <= most:
        _growth["runtime"] = min(_growth["runtime"], most / minutes)
        return
    rules = sorted({job.rule.name for job in jobs}, key=lambda rule: -sum(job.rule.name == rule for job in jobs))
    others = sum(_minutes_of(job) for job in jobs if job.rule.name != rules[0])
    count = sum(job.rule.name == rules[0] for job in jobs)
    changed = (
        {rules[0]: (most - others) // count} if most - others >= count else dict.fromkeys(rules, most // len(jobs))
    )
    raise UserError(
        f"{len(jobs)} jobs in one allocation, such as {jobs[0]}, ask for {minutes} minutes; {_named(partition)} "
        f"allows {most} (sinfo); ask for less (at its limit a training saves, and the next try goes on from there): "
        f"--set-resources {' '.join(f'{rule}:runtime={max(1, share)}' for rule, share in changed.items())}"
    )


def _minutes_of(job: Any) -> int:
    return int(job.resources.get("runtime") or 0)


def growth(resource: str, attempt: int) -> float:
    """The factor by which a try asks for more `mem_mb` or `runtime` than the first: not more than nodes and limits."""
    return min(attempt, _growth[resource])


def _of(nodes: list[Nodes], partition: str | None) -> list[Nodes]:
    """The nodes of a partition; without one, those of the default partition, or all if there is none."""
    return [each for each in nodes if (each.partition == partition if partition else each.is_default)] or (
        [] if partition else nodes
    )


def _named(partition: str | None) -> str:
    return f"partition {partition}" if partition else "the default partition"


def _nodes() -> list[Nodes]:
    lines = (_output("sinfo", "-h", "-e", "-o", "%P|%c|%m|%G|%l") or "").splitlines()
    parts = (line.split("|") for line in lines)
    return [
        Nodes(name.rstrip("*"), int(cpus), int(memory), _gpus(gres), _minutes(limit), name.endswith("*"))
        for name, cpus, memory, gres, limit in parts
    ]


def _gpus(gres: str) -> int:
    """The number of GPUs in Slurm's generic resources, such as "gpu:a100:4(S:0-1)"."""
    return sum(int(number) for number in re.findall(r"\bgpu(?::[^:,()]+)?:(\d+)", gres))


def _minutes(limit: str) -> int | None:
    """Minutes of Slurm's "days-hours:minutes:seconds"; None for "infinite"."""
    if not limit[:1].isdigit():
        return None
    days, _, clock = limit.rpartition("-")
    parts = [int(part) for part in clock.split(":")]
    hours, minutes = ([0, *parts] if len(parts) == 2 else parts)[:2]
    return 1440 * int(days or 0) + 60 * hours + minutes


def _output(*command: str) -> str | None:
    """What a command of Slurm prints; None if it fails, since none of this must stop a pipeline that could run."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
