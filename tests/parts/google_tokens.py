"""Plays Google's issuer of identity tokens: signs them, and serves the certificates on the loopback."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

AUDIENCE = "https://hooks.example.com/pubsub/etl/landed"
EMAIL = "pusher@project.iam.gserviceaccount.com"


@cache
def key_of(name: str) -> rsa.RSAPrivateKey:
    """Return the issuer's key of that id; keys are costly to make."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@cache
def certificate_of(name: str) -> str:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "issuer of tests")])
    start = datetime(2024, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(
        issuer_name=subject,
        subject_name=subject,
        public_key=key_of(name).public_key(),
        serial_number=1,
        not_valid_before=start,
        not_valid_after=start + timedelta(days=3650),
    )
    return builder.sign(key_of(name), hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def claims_at(now: datetime, **changed: Any) -> dict[str, Any]:
    """Return what a good token says; None takes a claim away."""
    claims = {
        "iss": "https://accounts.google.com",
        "aud": AUDIENCE,
        "azp": "1234",
        "sub": "1234",
        "email": EMAIL,
        "email_verified": True,
        "iat": int(now.timestamp()),
        "exp": int(now.timestamp()) + 3600,
    }
    return {name: value for name, value in (claims | changed).items() if value is not None}


def token(claims: Mapping[str, Any], *, key: str = "one", **header: Any) -> str:
    """Sign the claims."""
    head = {"alg": "RS256", "kid": key, "typ": "JWT"} | header
    content = f"{_spelled(json.dumps(head).encode())}.{_spelled(json.dumps(claims).encode())}"
    signature = key_of(key).sign(content.encode(), padding.PKCS1v15(), hashes.SHA256())
    return f"{content}.{_spelled(signature)}"


def _spelled(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@dataclass
class Issuer:
    """What the address of the certificates answers, and how often it was asked."""

    url: str
    keys: list[str] = field(default_factory=lambda: ["one"])
    cache_control: str = "public, max-age=3600, must-revalidate"
    status: int = 200
    body: bytes | None = None
    asked: int = 0

    def answer(self) -> bytes:
        self.asked += 1
        return self.body or json.dumps({name: certificate_of(name) for name in self.keys}).encode()


@contextmanager
def issuing() -> Iterator[Issuer]:
    """Serve certificates."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = issuer.answer()
            self.send_response(issuer.status)
            self.send_header("Cache-Control", issuer.cache_control)
            self.send_header("Location", issuer.url)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    issuer = Issuer(f"http://127.0.0.1:{server.server_port}/certs")
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.01), daemon=True)
    thread.start()
    try:
        yield issuer
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
