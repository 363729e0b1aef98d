"""Bare applications under the service's own server: the ceilings that the service is held against.

`empty` answers at once. `commit` writes one row by the store's group commit and answers when it is durable.
Started as `python -m benchmarks.baseline KIND PORT HOME [DATABASE_URL]`.
"""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Any

from flask import Flask, request
from gunicorn.app.base import BaseApplication
from sqlalchemy import text

from service.dispatcher import GATHER_SECONDS
from service.settings import Settings
from service.store.session import Commit, Database, GroupCommit


def empty_app() -> Flask:
    app = Flask("empty")

    @app.route("/", methods=["GET", "POST"])
    def index() -> Any:
        request.get_data()
        return {"ok": True}

    return app


def commit_app(home: Path, url: str) -> Flask:
    app = Flask("commit")
    database = Database(url or f"sqlite:///{home / 'bare.db'}", home=home)
    database.write(
        Commit.ACCEPT,
        lambda tx: tx.connection.execute(text("CREATE TABLE IF NOT EXISTS bare (body TEXT NOT NULL)")),
    )
    insert = text("INSERT INTO bare (body) VALUES (:body)")

    def apply(tx: Any, bodies: Any) -> list[bool]:
        tx.connection.execute(insert, [{"body": body} for body in bodies])
        return [True] * len(bodies)

    group: GroupCommit[str, bool] = GroupCommit(database, Commit.ACCEPT, apply, gather_seconds=GATHER_SECONDS)
    group.start()

    @app.route("/", methods=["GET", "POST"])
    def index() -> Any:
        group.submit(request.get_data(as_text=True)).result()
        return {"ok": True}

    return app


class Server(BaseApplication):
    """The service's server configuration over a bare application."""

    def __init__(self, kind: str, listener: socket.socket, home: Path, url: str) -> None:
        self._kind, self._listener, self._home, self._url = kind, listener, home, url
        super().__init__()

    def load_config(self) -> None:
        settings = Settings(home=self._home)
        for name, value in {
            "bind": f"fd://{self._listener.detach()}",
            "worker_class": "gthread",
            "workers": settings.web_processes,
            "threads": settings.web_threads,
            "keepalive": 75,
            "loglevel": "warning",
            "control_socket_disable": True,
        }.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        return empty_app() if self._kind == "empty" else commit_app(self._home, self._url)


def main() -> None:
    kind, port, home, url = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
    home.mkdir(parents=True, exist_ok=True)
    listener = socket.create_server(("127.0.0.1", port), backlog=2048)
    Server(kind, listener, home, url).run()


if __name__ == "__main__":
    main()
