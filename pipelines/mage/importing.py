"""Makes `mage_ai` and the project's own package importable while a run goes on, and only then.

Two finders of the import system. The first has `mage_ai`, and the modules of the project, whose paths below
`/home/src` it maps. The second comes after all others and knows the names that the project had elsewhere:
`default_repo`, the `name` of its `metadata.yaml`, and whatever its own code calls it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from pipelines.mage.names import MODULES, ROOT_NAME, is_module, missing, resolve
from pipelines.mage.oldsqlalchemy import postgres_by_psycopg2
from pipelines.mage.places import Places
from pipelines.mage.sources import compiled

_OWN_NAMES = re.compile(r"^\s*(?:from|import)\s+(?P<name>[A-Za-z_]\w*)\.(?P<below>\w+)", re.MULTILINE)
_ALWAYS = ("default_repo",)


@contextmanager
def mage_names(places: Places) -> Iterator[None]:
    """Let code of the project at `places` import `mage_ai`, as long as the body lasts.

    A `mage_ai` that is installed is set aside meanwhile, and is back afterwards.
    """
    first, last = _MageFinder(places), _OtherNames(places)
    before = _taken_out(_is_mages)
    sys.meta_path.insert(0, first)
    sys.meta_path.append(last)
    try:
        with postgres_by_psycopg2():
            yield
    finally:
        sys.meta_path.remove(first)
        sys.meta_path.remove(last)
        _taken_out(lambda name: _is_mages(name) or name.partition(".")[0] in last.given)
        sys.modules.update(before)


def current_places() -> Places | None:
    """Return where the running project lies; None outside of runs. Any thread of the run may ask."""
    return next((finder.places for finder in sys.meta_path if isinstance(finder, _MageFinder)), None)


def places_of(root: Path) -> Places:
    """Return the folders of the project at `root`, as its run knows them where one goes on."""
    current = current_places()
    return current if current is not None and current.root == root else Places(root)


def _is_mages(name: str) -> bool:
    return name.partition(".")[0] == ROOT_NAME


def _taken_out(is_one: Callable[[str], bool]) -> dict[str, ModuleType]:
    return {name: sys.modules.pop(name) for name in list(sys.modules) if is_one(name)}


class _MageFinder(MetaPathFinder):
    def __init__(self, places: Places) -> None:
        self.places = places
        self._loader = _MageLoader()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if _is_mages(fullname):
            if not is_module(fullname):
                raise missing(fullname)
            return ModuleSpec(fullname, self._loader, is_package=True)
        if path is None and not self._may_be_own(fullname):
            return None
        return _with_mapped_paths(PathFinder.find_spec(fullname, path, target), self.places)

    def _may_be_own(self, name: str) -> bool:
        root = self.places.root
        return name == root.name or (root / name).is_dir() or (root / f"{name}.py").is_file()


class _MageLoader(Loader):
    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _MageModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: names are looked up when they are asked for."""


class _MageModule(ModuleType):
    """A module of `mage_ai`. A name comes from our module when it is first asked for."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            if name == "__all__":
                return sorted(MODULES.get(self.__name__.partition(".")[2], ("", ()))[1])
            raise AttributeError(name)
        whole = f"{self.__name__}.{name}"
        if whole in sys.modules:
            return sys.modules[whole]
        if is_module(whole):
            raise AttributeError(name)  # `from package import module` imports it then
        value = resolve(self.__name__, name)
        setattr(self, name, value)
        return value


def _with_mapped_paths(spec: ModuleSpec | None, places: Places) -> ModuleSpec | None:
    """Let a module of the project be compiled as its blocks are; leave all others to their loaders."""
    if spec is None or type(spec.loader) is not SourceFileLoader or spec.origin is None:
        return None
    if not places.owns(Path(spec.origin)):
        return None
    spec.loader = _ProjectLoader(spec.name, spec.origin, places)
    return spec


class _ProjectLoader(SourceFileLoader):
    def __init__(self, name: str, path: str, places: Places) -> None:
        super().__init__(name, path)
        self._places = places

    def get_code(self, fullname: str) -> CodeType:
        """Compile the source as it is now; what is mapped here must not be cached for others."""
        path = self.get_filename(fullname)
        source = self.get_source(fullname) or ""
        return compiled(source, path, self._places)


class _OtherNames(MetaPathFinder):
    """Knows the project by names that its folder does not have here."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._known: frozenset[str] | None = None
        self.given: set[str] = set()  # the names that were asked for

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if path is not None or not self._is_own(fullname):
            return None
        self.given.add(fullname)
        spec = ModuleSpec(fullname, None, is_package=True)
        # The name is the project's, or that of what is around it: `mlops.training.utils` in `training`.
        spec.submodule_search_locations = [str(self._places.root), str(self._places.root.parent)]
        return spec

    def _is_own(self, name: str) -> bool:
        if name in _ALWAYS or name in self._places.names:
            return True
        if self._known is None:
            self._known = frozenset(_names_in_code(self._places.root))
        return name in self._known


def _names_in_code(root: Path) -> Iterator[str]:
    """Yield N for each `from N.below import ...` where `below` is in the project, or is its own folder."""
    for file in root.rglob("*.py"):
        if "site-packages" in file.parts:
            continue
        try:
            text = file.read_text("utf-8", errors="replace")
        except OSError:
            continue
        for match in _OWN_NAMES.finditer(text):
            below = root / match["below"]
            if below.name == root.name or below.is_dir() or below.with_suffix(".py").is_file():
                yield match["name"]
