"""Who may ask what: closed unless said otherwise, in one place, before every request.

Until there are users, a caller is either on this machine or holds the bearer token. A web page in the
user's own browser is on this machine as well, so loopback alone is not enough: a foreign `Host` (DNS
rebinding), a foreign `Origin` (a form or script of another site) and bodies that are not JSON (what a form
can send) are refused for everybody.
"""

from __future__ import annotations

import hmac
import ipaddress
from http import HTTPStatus
from urllib.parse import urlsplit

from flask import Flask, Request, request
from flask.globals import request_ctx
from werkzeug.exceptions import BadRequest, MethodNotAllowed
from werkzeug.routing import RequestRedirect

from service.settings import Settings
from service.web.bodies import BodyBroken, BodyTooLarge, read_body
from service.web.problems import Refusal

# Doors that guard themselves: webhooks by their own verification, probes because they tell nothing.
OPEN_ENDPOINTS = frozenset(
    {
        "pubsub.receive",
        "pubsub.receive_for_project",
        "webhooks.receive",
        "webhooks.receive_for_project",
        "webhooks.mage_pipeline_runs",
        "webhooks.mage_api_trigger",
        "cloudevents.receive",
        "cloudevents.receive_for_project",
        "health.healthz",
        "health.readyz",
    }
)

_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_WILDCARD_HOSTS = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - recognised in order not to be trusted
_PROXY_HEADERS = ("X-Forwarded-For", "X-Real-Ip", "Forwarded", "Via")
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN_SITES = frozenset({"same-origin", "none"})


class Guard:
    """Lets a request through, or raises the Refusal that answers it."""

    def __init__(self, settings: Settings) -> None:
        token = settings.api_token
        self._token = token.get_secret_value().encode() if token is not None else None
        own_host = set() if settings.host in _WILDCARD_HOSTS else {settings.host.lower()}
        self._extra_hosts = frozenset(settings.allowed_hosts)
        self._hosts = _LOOPBACK_NAMES | own_host | self._extra_hosts
        self._max_body_bytes = settings.max_body_bytes

    def check(self, asked: Request) -> None:
        self._check_host(asked)
        self._check_origin(asked)
        self._check_caller(asked)
        _check_body(asked, self._max_body_bytes)

    def _check_host(self, asked: Request) -> None:
        name = host_name(asked.host)
        if name not in self._hosts:
            raise Refusal(
                HTTPStatus.FORBIDDEN,
                f"This service does not answer to the host name {name[:100]!r}. "
                "If it is one of its own, add it to MILLRACE_ALLOWED_HOSTS.",
            )

    def _check_origin(self, asked: Request) -> None:
        origin = asked.headers.get("Origin")
        if origin is not None and not self._is_own_origin(origin, asked.host):
            raise Refusal(HTTPStatus.FORBIDDEN, "Requests from pages of another origin are refused.")
        site = asked.headers.get("Sec-Fetch-Site")
        if site is not None and site not in _OWN_SITES and asked.method not in _SAFE_METHODS:
            raise Refusal(HTTPStatus.FORBIDDEN, "Changes asked for by pages of another site are refused.")

    def _is_own_origin(self, origin: str, host: str) -> bool:
        try:
            parts = urlsplit(origin)
        except ValueError:
            return False
        if parts.scheme not in ("http", "https"):
            return False
        # Behind a proxy that rewrites `Host`, the page's own origin is a name the operator has listed.
        return parts.netloc.lower() == host.lower() or host_name(parts.netloc) in self._extra_hosts

    def _check_caller(self, asked: Request) -> None:
        if is_loopback(asked) or self._has_token(asked):
            return
        detail = (
            "Send `Authorization: Bearer <token>` with the token that is in MILLRACE_API_TOKEN."
            if self._token is not None
            else "Only callers on this machine are answered, because MILLRACE_API_TOKEN is not set."
        )
        raise Refusal(
            HTTPStatus.UNAUTHORIZED, detail, headers={"WWW-Authenticate": 'Bearer realm="millrace"'}
        )

    def _has_token(self, asked: Request) -> bool:
        scheme, _, given = asked.headers.get("Authorization", "").partition(" ")
        if self._token is None or scheme.lower() != "bearer":
            return False
        return hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), self._token)


def guard(app: Flask, settings: Settings) -> None:
    """Put the guard before every request of this app, known route or not."""
    guarding = Guard(settings)

    def check_request() -> None:
        if endpoint_of(request) not in OPEN_ENDPOINTS:
            guarding.check(request)

    app.before_request(check_request)


def endpoint_of(asked: Request) -> str | None:
    """Return the endpoint that owns the path, also when the method is wrong or a slash is missing."""
    failure = asked.routing_exception
    if asked.endpoint is not None or failure is None:
        return asked.endpoint
    if isinstance(failure, MethodNotAllowed) and failure.valid_methods:
        return _endpoint_for(next(iter(failure.valid_methods)))
    return None


def _endpoint_for(method: str) -> str | None:
    adapter = request_ctx.url_adapter
    if adapter is None:
        return None
    try:
        endpoint, _ = adapter.match(method=method)
    except (RequestRedirect, MethodNotAllowed):
        return None
    return str(endpoint)


def is_loopback(asked: Request) -> bool:
    """True when the caller is a program on this machine, and not a proxy that speaks for somebody else."""
    if any(name in asked.headers for name in _PROXY_HEADERS):
        return False
    try:
        address = ipaddress.ip_address(asked.remote_addr or "")
    except ValueError:
        return False  # a Unix socket, whose other end is most likely a proxy
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def host_name(host: str) -> str:
    """Return the name in a `Host` value: lower case, without port, brackets and final dot."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _check_body(asked: Request, limit: int) -> None:
    if asked.method in _SAFE_METHODS:
        return
    has_body = bool(asked.content_length) or "Transfer-Encoding" in asked.headers
    if not has_body and not asked.mimetype:
        return
    if not asked.is_json:
        raise Refusal(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Bodies must be JSON: send `Content-Type: application/json`."
        )
    if has_body:
        _require_readable(asked, limit)


def _require_readable(asked: Request, limit: int) -> None:
    try:
        read_body(asked, limit)
        asked.get_json()
    except BodyTooLarge:
        raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"The body has more than {limit} bytes.") from None
    except BodyBroken:
        raise Refusal(HTTPStatus.BAD_REQUEST, "The body did not come whole.") from None
    except BadRequest as error:
        told = (
            getattr(error.__cause__, "description", None) or ""
        )  # Flask keeps it from strangers; none is here
        reason = told.removeprefix("Failed to decode JSON object: ")
        raise Refusal(HTTPStatus.BAD_REQUEST, f"The body is not JSON: {reason}") from error
    except RecursionError:
        raise Refusal(HTTPStatus.BAD_REQUEST, "The body is nested too deeply.") from None
