"""A real HTTP server on loopback that serves a folder, and goes wrong in the ways that servers do."""

import hashlib
import math
import re
import threading
from dataclasses import dataclass, field
from email.message import Message
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, unquote


@dataclass(frozen=True)
class Behaviour:
    """How a file is served. All requests meet the first group, only the first `times` of them the second."""

    ranges: bool = True
    if_range: bool = True  # without: a range of whatever the file is now
    etag: bool = True
    modified: bool = True
    chunked: bool = False  # no Content-Length
    headers: dict[str, str] = field(default_factory=dict)
    redirect: str = ""  # to this address

    times: float = math.inf
    status: int | None = None  # answer this and nothing else
    retry_after: str = ""
    cut_after: int | None = None  # close the connection after so many bytes of the body
    stall_after: int | None = None  # after so many bytes of the body, wait for `FileServer.go_on`
    wrong_byte: bool = False  # the first byte of the body
    length_off: int = 0  # added to the Content-Length
    range_off: int = 0  # added to the start in the Content-Range


@dataclass(frozen=True)
class Request:
    """A request as it came."""

    name: str
    headers: Message


class FileServer(ThreadingHTTPServer):
    """Serves the files of `folder` while the `with` lasts.

    `behaviours[name] = Behaviour(...)` changes how one file is served; `requests` has all requests in order;
    `go_on.set()` ends a stall.
    """

    daemon_threads = False  # so that leaving the `with` waits for them

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.behaviours: dict[str, Behaviour] = {}
        self.requests: list[Request] = []
        self.go_on = threading.Event()

    def url(self, name: str) -> str:
        """The address of a file."""
        return f"http://127.0.0.1:{self.server_port}/{quote(name)}"

    def ranges_asked(self, name: str) -> list[str | None]:
        """The Range header of each request for a file."""
        return [request.headers["Range"] for request in self.requests if request.name == name]

    def __enter__(self) -> "FileServer":
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}).start()
        return self

    def __exit__(self, *_) -> None:
        self.go_on.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address) -> None:
        """Print nothing: the tests disconnect clients on purpose."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FileServer

    def do_GET(self) -> None:
        self.close_connection = True
        name = unquote(self.path.lstrip("/"))
        self.server.requests.append(Request(name, self.headers))
        how = self.server.behaviours.get(name, Behaviour())
        spoilt = len(self.server.ranges_asked(name)) <= how.times
        path = self.server.folder / name
        if how.redirect:
            self._answer(302, {"Location": how.redirect, **how.headers})
        elif spoilt and how.status:
            self._answer(how.status, {"Retry-After": how.retry_after} if how.retry_after else {})
        elif not path.is_file():
            self._answer(404, {})
        else:
            self._file(path, how, spoilt)

    def _answer(self, status: int, headers: dict[str, str], length: int = 0) -> None:
        self.send_response(status)
        for key, value in ({"Connection": "close", "Content-Length": str(length)} | headers).items():
            if value:
                self.send_header(key, value)
        self.end_headers()

    def _file(self, path: Path, how: Behaviour, spoilt: bool) -> None:
        content = path.read_bytes()
        etag = f'"{hashlib.sha256(content).hexdigest()}"' if how.etag else ""
        modified = formatdate(path.stat().st_mtime, usegmt=True) if how.modified else ""
        start = self._start(how, {etag, modified})
        if start >= len(content) > 0:
            return self._answer(416, {"Content-Range": f"bytes */{len(content)}"})
        body = content[start:]
        headers = {"ETag": etag, "Last-Modified": modified, **how.headers}
        if start:
            first = start + (how.range_off if spoilt else 0)
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        if how.chunked:
            headers |= {"Content-Length": "", "Transfer-Encoding": "chunked"}
            body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        self._answer(206 if start else 200, headers, len(body) + (how.length_off if spoilt else 0))
        self._send(body, how if spoilt else Behaviour())

    def _start(self, how: Behaviour, validators: set[str]) -> int:
        """The first byte that is asked for; 0 if the file is not the one that the client has a part of."""
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        condition = self.headers.get("If-Range")
        same = condition is None or condition in validators or not how.if_range
        return int(wanted[1]) if wanted and same and how.ranges else 0

    def _send(self, body: bytes, how: Behaviour) -> None:
        if how.wrong_byte:
            body = bytes([body[0] ^ 1]) + body[1:]
        if how.stall_after is not None:
            self.wfile.write(body[: how.stall_after])
            self.wfile.flush()
            self.server.go_on.wait()
            self.wfile.write(body[how.stall_after :])
        else:
            self.wfile.write(body if how.cut_after is None else body[: how.cut_after])

    def log_message(self, *_) -> None:
        pass
