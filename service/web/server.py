"""The web process: gunicorn over the application.

The master process only holds the socket and its children. Everything with a thread or a connection is built
in a child, after the fork, because neither survives one.
"""

from __future__ import annotations

import os
import socket
from typing import Any

import structlog
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.glogging import Logger as GunicornLogger

from pipelines.errors import MillraceError
from service import lifeline
from service.app import create_app
from service.dispatcher import Dispatcher
from service.errors import MillraceServiceError
from service.exits import FAILED, WRONG_USE, exit_code_of
from service.projects import ProjectsWatch
from service.runtime import Runtime, build_dispatcher, build_runtime
from service.settings import Settings
from service.web.parts import WebParts

logger = structlog.get_logger(__name__)

_MAX_CONNECTIONS = 2048  # open at once in a process; further ones wait in the socket's queue
# How a child tells gunicorn's master that it cannot start. The master then ends with the same code instead of
# trying again at once; the supervisor does that, with pauses.
_COULD_NOT = Arbiter.WORKER_BOOT_ERROR  # gunicorn's own code for whatever goes wrong before a child serves
_HOPELESS = Arbiter.APP_LOAD_ERROR


class Web:
    """What runs beside the application in a web process."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._dispatcher: Dispatcher = build_dispatcher(runtime)
        self._watch = ProjectsWatch(runtime.projects, every_seconds=runtime.settings.refresh_seconds)
        self.parts = WebParts(runtime=runtime, dispatcher=self._dispatcher)

    def start(self) -> None:
        self._runtime.wakeups.start()
        self._dispatcher.start()
        self._watch.start()
        logger.info("web process started", threads=self._runtime.settings.web_threads)

    def stop(self) -> None:
        """Commit what was accepted, then close. Called when no request is being answered any more."""
        self._watch.stop()
        self._dispatcher.stop()
        self._runtime.close()


class WebServer(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    """Our application as gunicorn wants it, on a socket that is already listening."""

    def __init__(self, settings: Settings, listener: socket.socket, lifeline_end: int | None) -> None:
        self._settings = settings
        self._descriptor = listener.detach()
        self._lifeline_end = lifeline_end
        self._web: Web | None = None
        super().__init__()

    def load_config(self) -> None:
        settings = self._settings
        options: dict[str, Any] = {
            "bind": f"fd://{self._descriptor}",
            "worker_class": "gthread",
            "workers": settings.web_processes,
            "threads": settings.web_threads,
            "worker_connections": _MAX_CONNECTIONS,
            "keepalive": 75,
            "graceful_timeout": max(1, int(settings.drain_seconds)),
            "logger_class": _SharedLog,
            "loglevel": "warning",
            "control_socket_disable": True,
            "preload_app": False,
            "worker_exit": lambda _arbiter, _worker: self._close(),
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        """Build the application; called in each child."""
        try:
            self._web = Web(build_runtime(self._settings))
            self._web.start()
            return create_app(self._web.parts)
        except (MillraceError, MillraceServiceError) as error:
            logger.error("the web process cannot start", error=str(error))
            is_hopeless = exit_code_of(error) == WRONG_USE
            raise SystemExit(_HOPELESS if is_hopeless else _COULD_NOT) from error

    def run(self) -> None:
        """Serve until a stop signal, then exit; with WRONG_USE when no restart would help."""
        master_pid = os.getpid()
        try:
            _Master(self, self._lifeline_end).run()
        except SystemExit as end:
            if os.getpid() != master_pid:
                raise  # a child of gunicorn's comes by here as well, on its way out
            codes = {_HOPELESS: WRONG_USE, _COULD_NOT: FAILED}
            raise SystemExit(codes.get(end.code, end.code)) from end

    def _close(self) -> None:
        if self._web is not None:
            self._web.stop()


class _Master(Arbiter):  # type: ignore[misc]
    """gunicorn's master, which also stops when the supervisor is gone."""

    def __init__(self, application: WebServer, lifeline_end: int | None) -> None:
        self._lifeline_end = lifeline_end
        super().__init__(application)

    def manage_workers(self) -> None:
        # Looked at here, about once a second: a thread in a process that forks is asking for trouble.
        if self._lifeline_end is not None and lifeline.is_cut(self._lifeline_end):
            raise StopIteration
        super().manage_workers()

    def handle_hup(self) -> None:
        """Stop when the terminal is closed: gunicorn would read its configuration again, and we have none."""
        raise StopIteration


class _SharedLog(GunicornLogger):  # type: ignore[misc]
    """Sends gunicorn's messages to our log instead of to handlers of its own."""

    def setup(self, cfg: Any) -> None:
        self.cfg = cfg
        self._access_log_enabled = False
        self.error_log.propagate = True
