"""For the tests of the verification schemes: what they say, and signatures as the providers make them."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from service.intake.verify.base import Fault, Signed, Unverified
from service.intake.verify.registry import build_scheme


def fault_of(options: Mapping[str, Any], signed: Signed, now: datetime) -> Fault | None:
    """Return why the delivery is not authentic, None when it is."""
    try:
        build_scheme(options).verify(signed, now)
    except Unverified as unverified:
        return unverified.fault
    return None


def refused(options: Mapping[str, Any], signed: Signed, now: datetime) -> Fault:
    found = fault_of(options, signed, now)
    assert found is not None, "the delivery was taken for authentic"
    return found


def sign_hex(secret: str, content: bytes) -> str:
    return hmac.new(secret.encode(), content, hashlib.sha256).hexdigest()


def sign_base64(secret: str, content: bytes, algorithm: str = "sha256") -> str:
    return base64.b64encode(hmac.new(secret.encode(), content, algorithm).digest()).decode()


def github_headers(secret: str, body: bytes, delivery: str, event: str = "push") -> dict[str, str]:
    return {
        "X-Hub-Signature-256": f"sha256={sign_hex(secret, body)}",
        "X-GitHub-Event": event,
        "X-GitHub-Delivery": delivery,
    }


def stripe_headers(secret: str, body: bytes, at: datetime) -> dict[str, str]:
    stamp = int(at.timestamp())
    signature = sign_hex(secret, f"{stamp}.".encode() + body)
    return {"Stripe-Signature": f"t={stamp},v1={signature},v0={'0' * 64}"}


def slack_headers(secret: str, body: bytes, at: datetime) -> dict[str, str]:
    stamp = str(int(at.timestamp()))
    signature = sign_hex(secret, f"v0:{stamp}:".encode() + body)
    return {"X-Slack-Signature": f"v0={signature}", "X-Slack-Request-Timestamp": stamp}


def shopify_headers(secret: str, body: bytes, event: str, topic: str) -> dict[str, str]:
    return {
        "X-Shopify-Hmac-Sha256": sign_base64(secret, body),
        "X-Shopify-Event-Id": event,
        "X-Shopify-Topic": topic,
        "X-Shopify-Webhook-Id": "subscription",
    }


def lowered(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers as a scheme gets them."""
    return {name.lower(): value for name, value in headers.items()}
