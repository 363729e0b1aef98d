"""The web application: one Flask app over the wired parts."""

from __future__ import annotations

from typing import Any, NoReturn

from flask import Flask
from flask.json.provider import DefaultJSONProvider

from service.web import api, auth, cloudevents, headers, health, problems, pubsub, ui, webhooks
from service.web.parts import WebParts


class StrictJson(DefaultJSONProvider):
    """JSON as the standard has it: keys in their own order, and neither NaN nor Infinity."""

    sort_keys = False

    def loads(self, s: str | bytes, **kwargs: Any) -> Any:
        return super().loads(s, parse_constant=_refuse_constant, **kwargs)


def create_app(parts: WebParts) -> Flask:
    """Build the app. It starts no threads and opens nothing; `parts` are already running."""
    settings = parts.runtime.settings
    app = Flask(__name__, static_folder="web/static", template_folder="web/templates")
    app.json = StrictJson(app)
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body_bytes
    app.url_map.strict_slashes = False

    problems.register(app)
    headers.register(app)
    auth.guard(app, settings)
    app.register_blueprint(webhooks.blueprint(parts))
    app.register_blueprint(pubsub.blueprint(parts))
    app.register_blueprint(cloudevents.blueprint(parts))
    app.register_blueprint(api.blueprint(parts))
    app.register_blueprint(health.blueprint(parts))
    app.register_blueprint(ui.blueprint(parts))
    return app


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
