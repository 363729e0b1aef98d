"""Every refusal and failure leaves as `application/problem+json` (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus

import structlog
from flask import Flask, Response
from pydantic import ValidationError
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from pipelines.errors import MillraceError
from pipelines.variables import InputError
from service.backfills.request import BackfillError
from service.backfills.slots import SlotError
from service.backfills.submitting import PreviewChanged
from service.errors import (
    Closed,
    CommitUnknown,
    IdempotencyConflict,
    MillraceServiceError,
    NotFound,
    QueueFull,
    StoreUnavailable,
    UnstorableText,
    WrongState,
)
from service.projects import UnknownProject
from service.running.launch import UnknownBlock, UnknownPipeline
from service.web.schemas import FieldProblemJson, ProblemJson

logger = structlog.get_logger(__name__)

RETRY_AFTER_SECONDS = 5  # how long a store that is down is given before a client tries again

# Errors whose own sentence is the answer.
_STATUS_OF: Mapping[type[MillraceError | MillraceServiceError], HTTPStatus] = {
    NotFound: HTTPStatus.NOT_FOUND,
    UnknownProject: HTTPStatus.NOT_FOUND,
    UnknownPipeline: HTTPStatus.NOT_FOUND,
    WrongState: HTTPStatus.CONFLICT,
    PreviewChanged: HTTPStatus.CONFLICT,
    IdempotencyConflict: HTTPStatus.CONFLICT,
    UnknownBlock: HTTPStatus.UNPROCESSABLE_ENTITY,
    InputError: HTTPStatus.UNPROCESSABLE_ENTITY,
    BackfillError: HTTPStatus.UNPROCESSABLE_ENTITY,
    SlotError: HTTPStatus.UNPROCESSABLE_ENTITY,
    UnstorableText: HTTPStatus.UNPROCESSABLE_ENTITY,
    QueueFull: HTTPStatus.SERVICE_UNAVAILABLE,
    Closed: HTTPStatus.SERVICE_UNAVAILABLE,
    CommitUnknown: HTTPStatus.SERVICE_UNAVAILABLE,
}


class Refusal(Exception):
    """Ends the request with this answer."""

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        *,
        errors: Sequence[FieldProblemJson] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = errors
        self.headers = dict(headers or {})

    def response(self) -> Response:
        problem = ProblemJson(
            title=self.status.phrase,
            status=self.status,
            detail=self.detail,
            errors=list(self.errors) or None,
        )
        return Response(
            problem.model_dump_json(exclude_none=True),
            status=self.status,
            headers=self.headers,
            content_type="application/problem+json",
        )


def not_found(what: str, name: str) -> Refusal:
    """Say that there is no such thing, without echoing more than a short name."""
    return Refusal(HTTPStatus.NOT_FOUND, f"There is no {what} {name[:100]!r}.")


def unprocessable(error: ValidationError) -> Refusal:
    """Turn what pydantic found into one sentence per field."""
    problems = [
        FieldProblemJson(where=".".join(str(part) for part in found["loc"]) or "body", message=found["msg"])
        for found in error.errors(include_url=False, include_context=False, include_input=False)
    ]
    sentences = "; ".join(f"{problem.where}: {problem.message}" for problem in problems)
    return Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, sentences, errors=problems)


def register(app: Flask) -> None:
    """Answer every exception of this app with a problem."""
    app.register_error_handler(Refusal, Refusal.response)
    app.register_error_handler(StoreUnavailable, _store_is_down)
    for kind in _STATUS_OF:
        app.register_error_handler(kind, _known_error)
    app.register_error_handler(HTTPException, _http_problem)
    app.register_error_handler(Exception, _unexpected)


def _store_is_down(error: StoreUnavailable) -> Response:
    # The exception's own text may name hosts; it belongs in the log, not in the answer.
    logger.warning("store is unavailable", error=str(error))
    return Refusal(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "The store does not answer. Nothing was changed; try again.",
        headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
    ).response()


def _known_error(error: Exception) -> Response:
    status = next(status for kind, status in _STATUS_OF.items() if isinstance(error, kind))
    unavailable = status is HTTPStatus.SERVICE_UNAVAILABLE
    headers = {"Retry-After": str(RETRY_AFTER_SECONDS)} if unavailable else {}
    return Refusal(status, str(error), headers=headers).response()


def _http_problem(error: HTTPException) -> Response | HTTPException:
    if error.response is not None or error.code is None or error.code < HTTPStatus.BAD_REQUEST:
        return error  # a redirect, or an answer that somebody has already written
    headers = {}
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        headers["Allow"] = ", ".join(sorted(error.valid_methods))
    retry_after = getattr(error, "retry_after", None)
    if retry_after is not None:
        headers["Retry-After"] = str(retry_after)
    return Refusal(HTTPStatus(error.code), error.description or "", headers=headers).response()


def _unexpected(error: Exception) -> Response:
    logger.exception("request failed", exc_info=error)
    return Refusal(
        HTTPStatus.INTERNAL_SERVER_ERROR, "Something went wrong here; the service's log has the traceback."
    ).response()
