"""A process that has imported torch and timm and forks for each job of a local pipeline, so that no job imports them.

The imports take about four seconds, more than most jobs of a small study compute. The Snakefile calls `start`; from
then on the command `ntkcl` runs in a fork, and in a process of its own only if the server is missing.
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

ADDRESS_VARIABLE = "NTKCL_FORK_SERVER"
STOP_SECONDS = 300  # that a job has to finish its step and save a checkpoint
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
LONGEST_FOLDER = 90  # characters; the path of a socket has at most 107
STARTED = b"\1"  # what a fork sends first
WAITING_JOBS = 1000  # that may wait for the server to have imported its modules
_lifeline = None


def start(module: str) -> None:
    """Start the server, for the jobs of this process. It ends with this process, however that ends.

    Args:
        module: name of the module that is run with the address as its argument; it calls `serve`.
    """
    global _lifeline
    folder = tempfile.mkdtemp(prefix="ntkcl-")
    if len(folder) > LONGEST_FOLDER:
        Path(folder).rmdir()
        folder = tempfile.mkdtemp(prefix="ntkcl-", dir="/tmp")
    address = str(Path(folder) / "socket")
    _lifeline = subprocess.Popen([sys.executable, "-m", module, address], stdin=subprocess.PIPE)
    os.environ[ADDRESS_VARIABLE] = address


def run_in_fork_server() -> int | None:
    """Let a fork of the server run this command line, with this process's files, folder and environment.

    Returns:
        The exit code, or None if there is no server, or it ended before it started the job.
    """
    if not (address := os.environ.get(ADDRESS_VARIABLE)):
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
        before = {number: signal.signal(number, lambda *_: _request_stop(connection)) for number in STOP_SIGNALS}
        is_started = _send(connection, content)
        answer = _receive(connection) if is_started else b""
        for number, handler in before.items():
            signal.signal(number, handler)
    if not is_started:
        return None
    return answer[0] if answer else 1  # no answer: the job was killed


def _send(connection: socket.socket, content: bytes) -> bool:
    """Send a request; return whether a fork has started its job."""
    try:
        connection.sendall(content)
    except OSError:
        return False
    return _receive(connection) == STARTED


def _receive(connection: socket.socket) -> bytes:
    try:
        return connection.recv(1)
    except OSError:
        return b""


def _request_stop(connection: socket.socket) -> None:
    """Request the fork to stop, and wait for its answer: it may have something to save first."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_WR)


def serve(address: str, load: Callable[[], Callable[[], None]]) -> None:
    """Fork for each request at `address`, until standard input ends.

    Args:
        address: path of the socket.
        load: imports all that jobs need and returns the command that a fork runs. Requests wait for it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started the jobs decides about them
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks: they answer by themselves
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen(WAITING_JOBS)
        command = load()
        while sys.stdin not in (ready := select.select([sys.stdin, server], [], [])[0]):
            connection, _ = ready[0].accept()
            if os.fork() == 0:
                server.close()
                _run(connection, command)
            connection.close()
    Path(address).unlink()
    Path(address).parent.rmdir()
    os._exit(0)  # the libraries would take a second to unload


def _run(connection: socket.socket, command: Callable[[], None]) -> None:
    """In the fork: take the files, folder and environment of the client, run the command, answer with its exit code."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    size, files, *_ = socket.recv_fds(connection, 4, 3)
    request = json.loads(connection.recv(int.from_bytes(size), socket.MSG_WAITALL))
    connection.sendall(STARTED)
    for own, given in enumerate(files):
        os.dup2(given, own)
        os.close(given)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = request["arguments"]
    threading.Thread(target=_stop_with, args=(connection,), daemon=True).start()
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


def _stop_with(connection: socket.socket) -> None:
    """Stop this process when the client has ended or requests it, as a child in its group would."""
    with contextlib.suppress(OSError):
        connection.recv(1)
    os.kill(os.getpid(), signal.SIGTERM)  # training saves a checkpoint
    time.sleep(STOP_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)
