"""One process that has imported torch and timm forks for each job of a local pipeline, so that no job imports them.

The imports take about four seconds, more than most jobs of a small study compute. `start` is called by the Snakefile;
from then on the command `ntkcl` hands itself over, and falls back to an ordinary start where it cannot.
"""

import array
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

ADDRESS = "NTKCL_FORK_SERVER"
GRACE = 300  # seconds that a job has to finish its step and save where it is
TO_STOP = (signal.SIGTERM, signal.SIGINT)
_lifeline = None


def start(module: str) -> None:
    """Start the process that forks, for the jobs of this process. It ends with this process in any case.

    Args:
        module: run with the address as its argument; it calls `serve`.
    """
    global _lifeline
    folder = tempfile.mkdtemp(prefix="ntkcl-")
    address = str(Path(folder) / "socket")
    command = [sys.executable, "-m", module, address]
    _lifeline = subprocess.Popen(command, stdin=subprocess.PIPE)
    os.environ[ADDRESS] = address


def run_in_fork_server() -> int | None:
    """Let the warm process run this command line, with this process's files, folder and environment.

    Returns:
        The exit code, or None where there is no warm process.
    """
    if not (address := os.environ.get(ADDRESS)):
        return None
    request = {"arguments": sys.argv, "folder": str(Path.cwd()), "environment": dict(os.environ)}
    content = json.dumps(request).encode()
    files = array.array("i", [0, 1, 2])
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(address)
            connection.sendmsg([len(content).to_bytes(4)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, files)])
        except OSError:
            return None
        connection.sendall(content)
        before = {number: signal.signal(number, lambda *_: _tell(connection)) for number in TO_STOP}
        answer = connection.recv(1)
        for number, handler in before.items():
            signal.signal(number, handler)
    return answer[0] if answer else 1  # no answer: the job was killed


def _tell(connection: socket.socket) -> None:
    """Tell the fork to stop, and wait for its answer: it may have something to save first."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_WR)


def serve(address: str, command: Callable[[], None]) -> None:
    """Fork for each request at `address`, until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one who started the jobs decides about them
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks: they answer by themselves
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen()
        while sys.stdin not in (ready := select.select([sys.stdin, server], [], [])[0]):
            connection, _ = ready[0].accept()
            if os.fork() == 0:
                server.close()
                _run(connection, command)
            connection.close()
    Path(address).unlink()
    Path(address).parent.rmdir()
    os._exit(0)  # nothing to tidy: the libraries would take a second to unload


def _run(connection: socket.socket, command: Callable[[], None]) -> None:
    """In the fork: become the process that asked, run the command, answer with its exit code."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    size, files, *_ = socket.recv_fds(connection, 4, 3)
    request = json.loads(connection.recv(int.from_bytes(size), socket.MSG_WAITALL))
    for own, given in enumerate(files):
        os.dup2(given, own)
        os.close(given)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = request["arguments"]
    threading.Thread(target=_die_with, args=(connection,), daemon=True).start()
    code = 0
    try:
        command()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    connection.send(bytes([code]))
    os._exit(code)


def _die_with(connection: socket.socket) -> None:
    """End this process when the one who asked has gone or was told to, as a child in its group would."""
    with contextlib.suppress(OSError):
        connection.recv(1)
    os.kill(os.getpid(), signal.SIGTERM)  # training saves where it is
    time.sleep(GRACE)
    os.kill(os.getpid(), signal.SIGKILL)
