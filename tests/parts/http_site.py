"""A small HTTP server on the loopback interface that a test fills."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Asked:
    """A request that came."""

    method: str
    path: str
    headers: Mapping[str, str]  # lower-case names
    body: bytes


Answer = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class HttpSite:
    """Serves what it is given, and honours If-None-Match."""

    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    _answers: dict[str, Answer] = field(default_factory=dict)

    def serve(
        self, path: str, body: bytes, headers: Mapping[str, str] | None = None, *, status: int = 200
    ) -> None:
        def answer(handler: BaseHTTPRequestHandler) -> None:
            etag = (headers or {}).get("ETag")
            if etag is not None and handler.headers.get("If-None-Match") == etag:
                handler.send_response(304)
                handler.end_headers()
                return
            handler.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                handler.send_header(name, value)
            handler.end_headers()
            handler.wfile.write(body)

        self._answers[path] = answer

    def answer_by(self, path: str, answer: Answer) -> None:
        """Let a function answer, however badly."""
        self._answers[path] = answer

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in handler.headers.items()}
        self.asked.append(Asked(handler.command, handler.path, headers, body))
        answer = self._answers.get(handler.path.partition("?")[0])
        if answer is None:
            handler.send_error(404)
            return
        try:
            answer(handler)
        except OSError:
            handler.close_connection = True  # whoever asked has gone


@contextmanager
def running_site() -> Iterator[HttpSite]:
    site = HttpSite()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.handle(self)

        def do_POST(self) -> None:
            site.handle(self)

        def log_message(self, format: str, *arguments: Any) -> None:
            """Say nothing: tests read what was asked."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        site.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield site
        server.shutdown()
        thread.join()
