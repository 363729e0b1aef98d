"""A small HTTP load generator: keep-alive connections over raw sockets, so that it costs little itself."""

from __future__ import annotations

import json
import socket
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

RequestOf = Callable[[int], bytes]


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Load:
    """What a burst of requests met."""

    seconds: float
    latencies: list[float]  # seconds, one for each request
    refused: int  # answers that were not 2xx

    @property
    def per_second(self) -> float:
        return len(self.latencies) / self.seconds

    def percentile_ms(self, percent: int) -> float:
        return statistics.quantiles(self.latencies, n=100, method="inclusive")[percent - 1] * 1000


class Connection:
    """One keep-alive connection."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""

    def send(self, request: bytes) -> Answer:
        self._socket.sendall(request)
        head = self._until(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        return Answer(status, self._exactly(length))

    def close(self) -> None:
        self._socket.close()

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._buffer:
            self._receive()
        head, _, self._buffer = self._buffer.partition(mark)
        return head + b"\r\n"

    def _exactly(self, length: int) -> bytes:
        while len(self._buffer) < length:
            self._receive()
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        return body

    def _receive(self) -> None:
        data = self._socket.recv(65536)
        if not data:
            raise ConnectionError("the server closed the connection")
        self._buffer += data


def post(path: str, body: Any, headers: dict[str, str] | None = None) -> bytes:
    """Return the bytes of a POST request with a JSON body."""
    data = json.dumps(body).encode()
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: 127.0.0.1",
        "Content-Type: application/json",
        f"Content-Length: {len(data)}",
        *(f"{name}: {value}" for name, value in (headers or {}).items()),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


def run_load(port: int, request_of: RequestOf, *, requests: int, connections: int = 8) -> Load:
    """Send `requests` requests over `connections` connections, each as soon as its last one is answered."""
    latencies: list[list[float]] = [[] for _ in range(connections)]
    refused = [0] * connections

    def client(number: int) -> None:
        connection = Connection(port)
        for index in range(number, requests, connections):
            request = request_of(index)
            began = time.perf_counter()
            answer = connection.send(request)
            latencies[number].append(time.perf_counter() - began)
            refused[number] += not 200 <= answer.status < 300
        connection.close()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(connections)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    return Load(seconds, [one for each in latencies for one in each], sum(refused))
