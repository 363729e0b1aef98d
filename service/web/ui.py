"""The first page: pipelines, recent runs, recent events. It refreshes itself by asking for its fragment."""

from __future__ import annotations

from datetime import UTC, datetime

from flask import Blueprint, Response, make_response, render_template, request

from service.web.overview import gather
from service.web.parts import WebParts
from service.web.schemas import iso_time


def blueprint(parts: WebParts) -> Blueprint:
    ui = Blueprint("ui", __name__)
    ui.add_app_template_filter(iso_time)
    ui.add_app_template_filter(utc_text)

    @ui.get("/")
    def page() -> str:
        return render_template("page.html", overview=gather(parts.runtime))

    @ui.get("/overview")
    def overview() -> Response:
        fragment = make_response(render_template("overview.html", overview=gather(parts.runtime)))
        fragment.add_etag()
        fragment.make_conditional(request)
        return fragment

    return ui


def utc_text(moment: datetime) -> str:
    """Write a time for people, with its zone."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
