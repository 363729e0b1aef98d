"""The OpenAPI document, written from the routes and their models."""

from __future__ import annotations

from collections.abc import Hashable
from copy import deepcopy
from functools import cache
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, cast

from flask import Request
from pydantic import BaseModel, ValidationError
from spectree import Response, SecurityScheme, SpecTree
from spectree.model_adapter.protocol import SchemaMode
from spectree.model_adapter.pydantic_adapter import PydanticModelAdapter
from spectree.models import SecureType, SecuritySchemeData

from service.web.problems import unprocessable
from service.web.schemas import ProblemJson

_PROBLEM_STATUSES = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.NOT_FOUND,
    HTTPStatus.METHOD_NOT_ALLOWED,
    HTTPStatus.CONFLICT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
    HTTPStatus.SERVICE_UNAVAILABLE,
)


class _ModelsOnce(PydanticModelAdapter):
    """Makes the schema of a model once, not for each status of each route: a third of a second at start."""

    def json_schema(
        self, model: type[Any], *, ref_template: str, mode: SchemaMode = "validation"
    ) -> dict[str, Any]:
        return _schema_of(cast(Hashable, model), ref_template, mode)


@cache
def _schema_of(model: Any, ref_template: str, mode: SchemaMode) -> dict[str, Any]:
    return PydanticModelAdapter().json_schema(model, ref_template=ref_template, mode=mode)


def describing() -> SpecTree:
    """Return a fresh validator: it checks requests against models and remembers both for the document."""
    return SpecTree(
        "flask",
        title="Millrace",
        description="Runs, events, pipelines and triggers of a Millrace service.",
        version=version("millrace"),
        mode="strict",
        annotations=True,
        before=_refuse_what_is_invalid,
        naming_strategy=_schema_name,
        nested_naming_strategy=lambda _parent, child: child.removesuffix("Json"),
        model_adapter=cast(Any, _ModelsOnce()),
        security_schemes=[
            SecurityScheme(
                name="token",
                data=SecuritySchemeData(
                    type=SecureType.HTTP,
                    scheme="bearer",
                    description="MILLRACE_API_TOKEN. Callers on the service's own machine need none.",
                ),
            )
        ],
        security=[{}, {"token": []}],
    )


def answer(
    model: type[BaseModel], *, status: HTTPStatus = HTTPStatus.OK, also: HTTPStatus | None = None
) -> Response:
    """Describe an answer: this model at these statuses, a problem at every other."""
    described: dict[str, Any] = {f"HTTP_{refused.value}": ProblemJson for refused in _PROBLEM_STATUSES}
    for good in (status, also):
        if good is not None:
            described[f"HTTP_{good.value}"] = model
    return Response(**described)


def openapi_document(documented: SpecTree) -> dict[str, Any]:
    """Return the document. Must be called within a request, because the routes are those of its app."""
    document: dict[str, Any] = deepcopy(documented.spec)
    problem = {"$ref": "#/components/schemas/Problem"}
    for operations in document["paths"].values():
        for operation in operations.values():
            for described in operation["responses"].values():
                content = described.get("content", {})
                if content.get("application/json", {}).get("schema") == problem:
                    described["content"] = {"application/problem+json": {"schema": problem}}
    return document


def _schema_name(model: Any) -> str:
    return str(model.__name__).removesuffix("Json")


def _refuse_what_is_invalid(
    _request: Request, _response: object, error: Exception | None, _instance: object, _adapter: object
) -> None:
    if isinstance(error, ValidationError):
        raise unprocessable(error) from error
