"""The projects that one service serves, kept up to date with their files."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from pipelines.project import Project
from pipelines.secrets import Secrets
from service.errors import NotFound, SettingsError
from service.settings import require_folder

logger = structlog.get_logger(__name__)


class UnknownProject(NotFound):
    """The service serves no project of that name."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        super().__init__("project", name)
        self.args = (f"there is no project {name!r} here; this service serves {', '.join(known)}",)


class Projects:
    """Several projects by name. The first is the default one, which short paths speak to."""

    def __init__(self, roots: Sequence[Path], *, secrets: Secrets | None = None) -> None:
        """Load every root; its broken pipelines are problems of its project, a missing folder is an error.

        Where `secrets` are given, their change counts as one of the projects.
        """
        self._lock = threading.Lock()
        self._secrets = secrets or Secrets(None, {})
        self._stamp = self._secrets.stamp()
        self._projects: dict[str, Project] = {}
        self._version = 1
        for root in roots:
            require_folder(root)
            self._add(Project.load(root))

    def _add(self, project: Project) -> None:
        twin = self._projects.get(project.name)
        if twin is not None:
            raise SettingsError(
                f"{twin.root} and {project.root} are both named {project.name!r}; "
                "give one of them another `name` in its metadata.yaml"
            )
        self._projects[project.name] = project

    @property
    def default(self) -> Project:
        return next(iter(self._projects.values()))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._projects)

    @property
    def version(self) -> int:
        """A number that grows with every change, for caches of what was made from the projects."""
        return self._version

    def get(self, name: str) -> Project:
        try:
            return self._projects[name]
        except KeyError:
            raise UnknownProject(name, self.names) from None

    def all(self) -> tuple[Project, ...]:
        return tuple(self._projects.values())

    def refresh(self) -> bool:
        """Read again what changed on disk. Return True when something did."""
        with self._lock:
            changed = [project.name for project in self.all() if project.refresh()]
            stamp, before = self._secrets.stamp(), self._stamp
            self._stamp = stamp
            if changed or stamp != before:
                self._version += 1
        for name in changed:
            logger.info("project changed", project=name, problems=len(self._projects[name].problems))
        if stamp != before:
            logger.info("secrets changed")
        return bool(changed) or stamp != before


class ProjectsWatch:
    """Refreshes the projects in the background and tells `on_change` after a change."""

    def __init__(
        self, projects: Projects, *, every_seconds: float, on_change: Sequence[Callable[[], None]] = ()
    ) -> None:
        self._projects = projects
        self._every_seconds = every_seconds
        self._on_change = tuple(on_change)
        self._told = projects.version
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="projects-watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        while not self._stopping.wait(self._every_seconds):
            try:
                self._projects.refresh()
                self._tell()
            except Exception:
                # A file system that fails for a moment must not end the watch; the last good version stays.
                logger.exception("could not refresh the projects")

    def _tell(self) -> None:
        """Tell of a new version, also when somebody else was the first to see it."""
        version = self._projects.version
        if version != self._told:
            self._told = version
            for tell in self._on_change:
                tell()
