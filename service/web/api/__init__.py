"""The JSON API under `/api/v1`."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from service.web.api import backfills, events, pipelines, project, runs, sensors, triggers
from service.web.api.documentation import describing, openapi_document
from service.web.parts import WebParts


def blueprint(parts: WebParts) -> Blueprint:
    api = Blueprint("api", __name__, url_prefix="/api/v1")
    documented = describing()
    for resource in (project, pipelines, triggers, sensors, events, runs, backfills):
        resource.register(api, parts, documented)

    @api.get("/openapi.json")
    def openapi() -> Response:
        return jsonify(openapi_document(documented))

    return api
