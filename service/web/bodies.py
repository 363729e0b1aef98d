"""Bodies of requests, read up to a limit."""

from __future__ import annotations

from flask import Request
from werkzeug.exceptions import RequestEntityTooLarge


class BodyTooLarge(Exception):
    """The body has more bytes than are taken."""


def read_body(request: Request, limit: int) -> bytes:
    """Return the body, whole. The request remembers it. Raises BodyTooLarge."""
    # Werkzeug refuses by Content-Length before it reads, but silently cuts a chunked body at its limit.
    # One byte more than we take tells a cut body from a whole one.
    request.max_content_length = limit + 1
    try:
        body = request.get_data()
    except RequestEntityTooLarge:
        raise BodyTooLarge from None
    if len(body) > limit:
        raise BodyTooLarge
    return body
