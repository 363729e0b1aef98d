"""A server that speaks just enough of Postgres to refuse a password: the embedded real one asks for none."""

from __future__ import annotations

import socketserver
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# What a client sends first to ask for TLS, or for GSS encryption.
_ENCRYPTION_REQUESTS = (struct.pack("!i", 80877103), struct.pack("!i", 80877104))


class _Refusing(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        while self._packet() in _ENCRYPTION_REQUESTS:
            self.wfile.write(b"N")
        self.wfile.write(b"R" + struct.pack("!ii", 8, 3))
        self.rfile.read(1)
        self._packet()
        fields = b'SFATAL\0VFATAL\0C28P01\0Mpassword authentication failed for user "me"\0\0'
        self.wfile.write(b"E" + struct.pack("!i", len(fields) + 4) + fields)

    def _packet(self) -> bytes:
        (size,) = struct.unpack("!i", self.rfile.read(4))
        return self.rfile.read(size - 4)


@contextmanager
def refusing_postgres() -> Iterator[int]:
    """Give the port of a server that asks for a password in clear text and refuses every one."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield int(server.server_address[1])
        server.shutdown()
