"""Bodies of requests, read up to a limit."""

from __future__ import annotations

from flask import Request
from gunicorn.http.errors import ParseException
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge


class BodyTooLarge(Exception):
    """The body has more bytes than are taken."""


class BodyBroken(Exception):
    """The body ended before it was whole, or its chunks cannot be read."""


def read_body(request: Request, limit: int) -> bytes:
    """Return the body, whole. The request remembers it. Raises BodyTooLarge and BodyBroken."""
    # Werkzeug refuses by Content-Length before it reads, but silently cuts a chunked body at its limit.
    # One byte more than we take tells a cut body from a whole one.
    request.max_content_length = limit + 1
    try:
        body = request.get_data()
    except RequestEntityTooLarge:
        raise BodyTooLarge from None
    except (ClientDisconnected, ParseException):
        raise BodyBroken from None
    # gunicorn hands over what came before the connection was lost as if it were everything.
    if request.content_length is not None and len(body) < request.content_length:
        raise BodyBroken
    if len(body) > limit:
        raise BodyTooLarge
    return body
