"""A server on the loopback interface that stands in for a mirror."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Literal

Behaviour = Literal[
    "ok", "missing", "failing", "truncated", "corrupted", "dropped", "hanging up", "encoded", "page", "circular", "slow"
]
PAGE = b"<!DOCTYPE html><html><body>Please log in to this network.</body></html>"


@dataclass
class Mirror:
    """What a test sees of a running server."""

    address: str
    requests: list[str] = field(default_factory=list)
    user_agents: list[str] = field(default_factory=list)


@contextmanager
def mirror(files: Mapping[str, bytes], behaviour: Behaviour = "ok", redirect: str | None = None) -> Iterator[Mirror]:
    """Serve files at ``<address><name>``.

    Args:
        files: Content by name.
        behaviour: "ok"; "missing": 404 for everything; "truncated": half of the content under its full length;
            "corrupted": one byte changed; "dropped": the length is not stated and half is sent; "hanging up": the
            connection ends without an answer; "encoded": the file is whole, and said to be encoded; "failing": 500;
            "page": an HTML page in place of the file; "circular": a redirection to itself; "slow": the second half
            comes two seconds after the first one.
        redirect: Address that every request is redirected to.
    """
    seen = Mirror("")
    # No daemon threads, so that server_close waits for the last answer.
    server_class = type("Server", (ThreadingHTTPServer,), {"daemon_threads": False})
    with server_class(("127.0.0.1", 0), _handler(seen, files, behaviour, redirect)) as server:
        seen.address = f"http://127.0.0.1:{server.server_address[1]}/"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield seen
        finally:
            server.shutdown()
            thread.join()


def _handler(
    seen: Mirror, files: Mapping[str, bytes], behaviour: Behaviour, redirect: str | None
) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.lstrip("/")
            seen.requests.append(name)
            seen.user_agents.append(self.headers["User-Agent"])
            if behaviour == "hanging up":
                return
            if behaviour == "missing" or name not in files:
                self.send_error(404)
                return
            if behaviour == "failing":
                self.send_error(500)
                return
            location = self.path if behaviour == "circular" else redirect
            if location is not None:
                self.send_response(302)
                self.send_header("Location", location)
                self.end_headers()
                return
            content = PAGE if behaviour == "page" else files[name]
            self.send_response(200)
            if behaviour != "dropped":
                self.send_header("Content-Length", str(len(content)))
            if behaviour == "encoded":
                self.send_header("Content-Encoding", "gzip")
            self.end_headers()
            half = len(content) // 2 if behaviour == "slow" else 0
            with suppress(ConnectionError):  # a client may be killed meanwhile
                self.wfile.write(content[:half])
                time.sleep(2 if half else 0)
                self.wfile.write(_spoil(content, behaviour)[half:])

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is http.server's
            """Keep the output of the tests clean."""

    return Handler


def _spoil(content: bytes, behaviour: Behaviour) -> bytes:
    if behaviour in ("truncated", "dropped"):
        return content[: len(content) // 2]
    if behaviour == "corrupted":
        return content[:-1] + bytes([content[-1] ^ 0xFF])
    return content
