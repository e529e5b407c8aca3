"""A server on the loopback interface that stands in for a mirror."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Literal

Behaviour = Literal["ok", "missing", "truncated", "corrupted", "dropped", "hanging up", "encoded"]


@dataclass
class Mirror:
    """What a test sees of a running server."""

    address: str
    requests: list[str] = field(default_factory=list)
    user_agents: list[str] = field(default_factory=list)


@contextmanager
def mirror(files: Mapping[str, bytes], behaviour: Behaviour = "ok") -> Iterator[Mirror]:
    """Serve files at ``<address><name>``.

    Args:
        files: Content by name.
        behaviour: "ok"; "missing": 404 for everything; "truncated": half of the content under its full length;
            "corrupted": one byte changed; "dropped": the length is not stated and half is sent; "hanging up": the
            connection ends without an answer; "encoded": the file is whole, and said to be encoded.
    """
    seen = Mirror("")

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
            content = files[name]
            self.send_response(200)
            if behaviour != "dropped":
                self.send_header("Content-Length", str(len(content)))
            if behaviour == "encoded":
                self.send_header("Content-Encoding", "gzip")
            self.end_headers()
            self.wfile.write(_spoil(content, behaviour))

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is http.server's
            """Keep the output of the tests clean."""

    # No daemon threads, so that server_close waits for the last answer.
    server_class = type("Server", (ThreadingHTTPServer,), {"daemon_threads": False})
    with server_class(("127.0.0.1", 0), Handler) as server:
        seen.address = f"http://127.0.0.1:{server.server_address[1]}/"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield seen
        finally:
            server.shutdown()
            thread.join()


def _spoil(content: bytes, behaviour: Behaviour) -> bytes:
    if behaviour in ("truncated", "dropped"):
        return content[: len(content) // 2]
    if behaviour == "corrupted":
        return content[:-1] + bytes([content[-1] ^ 0xFF])
    return content
