"""Debian's Chromium without a window, controlled through its DevTools pipe: no other package is needed."""

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from select import select
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PATIENCE = 60  # seconds: the machine may be busy
OPTIONS = [
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-sandbox",  # as root it does not start with one; the page is our own
    "--disable-gpu",
    "--disable-dev-shm-usage",  # containers have little of it
    "--disable-background-networking",
    "--no-first-run",
    "--window-size=1400,1000",
    "--host-resolver-rules=MAP * ~NOTFOUND",  # no network
]


class Browser:
    """A page and what it complains about. Use it as a context.

    Attributes:
        errors: errors on the console, and exceptions that nothing caught.
        requests: addresses that the page asked for, except files and data.
    """

    def __init__(self, profile: Path) -> None:
        self.errors: list[str] = []
        self.requests: list[str] = []
        self._contexts: dict[tuple[str, int], str] = {}  # of scripts, by session and number: in which frame
        self._number, self._pending = 0, b""
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (*os.pipe(), *os.pipe())]

        def place() -> None:
            os.dup2(ends[0], 3)  # where Chromium reads
            os.dup2(ends[3], 4)  # where it writes

        command = [CHROMIUM, *OPTIONS, f"--user-data-dir={profile}", "about:blank"]
        self._process = subprocess.Popen(command, preexec_fn=place, pass_fds=(3, 4), stderr=subprocess.DEVNULL)
        os.close(ends[0])
        os.close(ends[3])
        self._to, self._from = ends[1], ends[2]
        self._page = self._call("Target.createTarget", url="about:blank")["targetId"]  # also the name of its frame
        self._session = self._call("Target.attachToTarget", targetId=self._page, flatten=True)["sessionId"]

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *_: Any) -> None:
        with contextlib.suppress(OSError):
            self._send("Browser.close", "")
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._to)
        os.close(self._from)

    def open(self, file: Path) -> None:
        """Load a file."""
        self._call("Page.navigate", self._session, url=file.resolve().as_uri())

    def value(self, script: str) -> Any:
        """What a script of the page gives."""
        return self._evaluate(self._session, script)

    def wait(self, script: str) -> Any:
        """What a script gives as soon as that is anything.

        Raises:
            TimeoutError: it was nothing for too long.
        """
        return self._wait(lambda: self.value(script), script)

    def wait_in_frame(self, script: str) -> Any:
        """The same in a frame of the page."""
        return self._wait(lambda: next(filter(None, self._in_frames(script)), None), script)

    def _in_frames(self, script: str) -> Iterator[Any]:
        self.value("null")  # any answer brings the news of frames with it
        frames = [context for context, frame in self._contexts.items() if frame != self._page]
        return (self._evaluate(session, script, contextId=number) for session, number in frames)

    def _wait(self, look: Callable[[], Any], what: str) -> Any:
        deadline = time.monotonic() + PATIENCE
        while not (found := look()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"nothing from {what}; errors: {self.errors}")
            time.sleep(0.1)
        return found

    def _evaluate(self, session: str, script: str, **where: Any) -> Any:
        answer = self._call("Runtime.evaluate", session, expression=script, returnByValue=True, **where)
        return answer.get("result", {}).get("value")

    def _listen(self, session: str) -> None:
        """To a page, or to a frame with a process of its own."""
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._send(f"{domain}.enable", session)
        self._send("Target.setAutoAttach", session, autoAttach=True, waitForDebuggerOnStart=False, flatten=True)

    def _call(self, method: str, session: str = "", **parameters: Any) -> dict[str, Any]:
        """A command's answer; what happened before it came is noted."""
        number = self._send(method, session, **parameters)
        while (message := self._receive()).get("id") != number:
            self._note(message)
        return message.get("result", {})  # nothing if it failed

    def _send(self, method: str, session: str, **parameters: Any) -> int:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        content = json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0"
        while content:
            content = content[os.write(self._to, content) :]
        return self._number

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._pending:
            if not select([self._from], [], [], PATIENCE)[0]:
                raise TimeoutError("Chromium does not answer")
            if not (part := os.read(self._from, 1 << 20)):
                raise RuntimeError(f"Chromium ended with code {self._process.wait()}")
            self._pending += part
        message, _, self._pending = self._pending.partition(b"\0")
        return json.loads(message)

    def _note(self, message: dict[str, Any]) -> None:
        happened, session = message.get("params", {}), message.get("sessionId", "")
        match message.get("method"):
            case "Runtime.consoleAPICalled" if happened["type"] in ("error", "assert"):
                self.errors.append(str([part.get("value", part.get("description")) for part in happened["args"]]))
            case "Runtime.exceptionThrown":
                details = happened["exceptionDetails"]
                self.errors.append(details.get("exception", {}).get("description", details["text"]))
            case "Log.entryAdded" if happened["entry"]["level"] == "error":
                self.errors.append(f"{happened['entry']['text']} {happened['entry'].get('url', '')}")
            case "Network.requestWillBeSent":
                if not (url := happened["request"]["url"]).startswith(("file:", "data:", "about:", "blob:")):
                    self.requests.append(url)
            case "Runtime.executionContextCreated":
                context = happened["context"]
                self._contexts[session, context["id"]] = context.get("auxData", {}).get("frameId", "")
            case "Runtime.executionContextDestroyed":
                self._contexts.pop((session, happened["executionContextId"]), None)
            case "Target.attachedToTarget":
                self._listen(happened["sessionId"])
