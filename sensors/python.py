"""The `python` sensor: a function of the project that is given a cursor and yields events."""

from __future__ import annotations

import inspect
import json
import sys
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from pydantic import ConfigDict, Field

from sensors.base import PAGE_SIZE, Cursor, ExistingRule, Options, Page, Sensor, SensorError, TickContext
from sensors.event import Event
from sensors.first_sight import FirstSight
from sensors.moments import moment_of
from sensors.plain import plain, storable

_KEYS = frozenset(("key", "data", "time", "subject", "type"))
_MODULE = "millrace_sensor_"


class PythonOptions(Options):
    """All further options are keywords of the function."""

    model_config = ConfigDict(extra="allow", frozen=True)

    path: str = Field(min_length=1, description="the file, relative to the project")
    function: str = Field(default="poll", min_length=1, description="its name in the file")

    @property
    def keywords(self) -> Mapping[str, Any]:
        return self.model_extra or {}


@dataclass(frozen=True, slots=True)
class _Memory:
    """The cursor: the function's own, and what was there at first sight while that is not committed."""

    own: Any = None
    first: FirstSight | None = None

    @classmethod
    def parse(cls, cursor: Cursor) -> _Memory:
        stored = json.loads(cursor or "{}")
        first = stored.get("first")
        return cls(stored.get("cursor"), None if first is None else FirstSight.parse(first))

    def text(self) -> str:
        """Raises SensorError for a cursor that is not plain JSON."""
        first = {} if self.first is None else {"first": self.first.text()}
        try:
            return json.dumps({"cursor": self.own, **first}, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise SensorError(f"the cursor that the function gave is not plain JSON: {error}") from None


@dataclass(frozen=True, slots=True)
class _Mark:
    """A cursor that stands once all before it is committed."""

    cursor: Any


class PythonSensor(Sensor[PythonOptions]):
    """Calls `poll(cursor, **options)` and hands on what it yields.

    The keys decide here as well: what is yielded again under its key starts nothing.
    """

    name: ClassVar[str] = "python"
    options_model: ClassVar[type[Options]] = PythonOptions
    apart: ClassVar[bool] = True

    def faults(self, root: Path) -> Iterator[str]:
        if not (root / self.options.path).is_file():
            yield f"the project has no file {self.options.path}; write it, or mend `path`"

    def tick(self, cursor: Cursor, context: TickContext) -> Iterator[Page]:
        memory = _Memory.parse(cursor)
        code = _Code(context.root, self.options.path, self.options.function)
        items = self._items(code, memory, context)
        is_first = cursor is None and context.existing.rule is not ExistingRule.TRIGGER
        if is_first or memory.first is not None:
            known = list(items)
            keys = (item.key for item in known if isinstance(item, Event))
            memory = replace(memory, first=memory.first or FirstSight.of(keys))
            items = iter(known)
        yield from _pages(items, memory, context)

    def _items(self, code: _Code, memory: _Memory, context: TickContext) -> Iterator[Event | _Mark]:
        with code.told_plainly():
            given = code.load()(memory.own, **self.options.keywords)
        if not isinstance(given, Iterable) or isinstance(given, str | bytes | Mapping):
            raise SensorError(f"{code.where} returned {_named(given)}; it must yield events")
        values = _values(given)
        try:
            while True:
                with code.told_plainly():
                    value = next(values)
                yield _item(value, code, context)
        except StopIteration as end:
            if end.value is not None:
                yield _Mark(end.value)
        finally:
            values.close()


def _values(given: Iterable[Any]) -> Generator[Any, None, Any]:
    return (yield from given)


def _pages(items: Iterator[Event | _Mark], memory: _Memory, context: TickContext) -> Iterator[Page]:
    held: list[Event] = []
    for item in items:
        is_mark = isinstance(item, _Mark)
        if isinstance(item, Event):
            held.append(item)
        if not is_mark and len(held) < PAGE_SIZE:
            continue
        after = replace(memory, own=item.cursor) if isinstance(item, _Mark) else memory
        yield _page(held, memory, after, context)
        held, memory = [], after
        if context.is_stopping():
            return
    yield _page(held, memory, replace(memory, first=None), context)


def _page(held: list[Event], before: _Memory, after: _Memory, context: TickContext) -> Page:
    old = {
        id(event)
        for event in held
        if before.first is not None
        and event.key in before.first
        and context.existing.makes_baseline(event.time)
    }
    return Page(
        events=tuple(event for event in held if id(event) not in old),
        cursor=after.text(),
        baseline=tuple(event for event in held if id(event) in old),
        partly=before.text(),
    )


def _item(value: Any, code: _Code, context: TickContext) -> Event | _Mark:
    """Return the event or the cursor that the function yielded. Raises SensorError."""
    if isinstance(value, Event):
        return value
    if not isinstance(value, Mapping):
        raise SensorError(f"{code.where} yielded {_named(value)}; it must yield events as dicts with a 'key'")
    if set(value) == {"cursor"}:
        return _Mark(value["cursor"])
    unknown = sorted(str(name) for name in value.keys() - _KEYS)
    if unknown:
        raise SensorError(
            f"{code.where} yielded an event with {unknown}; it may have {', '.join(sorted(_KEYS))}, "
            "and what belongs to it goes into 'data'"
        )
    return _event(value, code, context)


def _event(value: Mapping[str, Any], code: _Code, context: TickContext) -> Event:
    key = value.get("key")
    if key is None or str(key) == "":
        raise SensorError(f"{code.where} yielded an event without a 'key', which tells it from all others")
    time = context.now if value.get("time") is None else moment_of(value["time"])
    if time is None:
        raise SensorError(f"{code.where}, event {str(key)!r}: 'time' is {value['time']!r}, which is no time")
    try:
        data = plain(value.get("data"))
    except RecursionError:
        raise SensorError(f"{code.where}, event {str(key)!r}: 'data' is nested too deeply") from None
    subject = value.get("subject")
    return Event(
        source=context.source,
        key=storable(str(key)),
        type=storable(str(value.get("type") or "python.event")),
        time=time,
        subject=None if subject is None else storable(str(subject)),
        data=data,
    )


class _Code:
    """The project's file, and where in it something went wrong."""

    def __init__(self, root: Path, path: str, function: str) -> None:
        self._root = root.resolve()
        self._path = path
        self._file = (root / path).resolve()
        self._function = function

    @property
    def where(self) -> str:
        return f"{self._path}: {self._function}"

    def load(self) -> Callable[..., Any]:
        """Execute the file, as it is now, and return its function. Raises SensorError and what it raises."""
        module = ModuleType(_MODULE + self._file.stem)
        module.__file__ = str(self._file)
        sys.modules[module.__name__] = module  # where dataclasses and pickle look for it
        exec(compile(self._text(), str(self._file), "exec"), module.__dict__)  # noqa: S102 - its purpose
        function = getattr(module, self._function, None)
        if not callable(function) or inspect.iscoroutinefunction(function):
            raise SensorError(
                f"{self._path} has no function '{self._function}'; write `def {self._function}(cursor): ...` "
                "that yields events, or name another by 'function' in the trigger's options"
            )
        return function  # type: ignore[no-any-return]

    @contextmanager
    def told_plainly(self) -> Iterator[None]:
        """Say with file and line what the code raises."""
        try:
            yield
        except (SensorError, StopIteration, GeneratorExit):
            raise
        except SyntaxError as error:
            raise SensorError(f"{self._shown(error.filename)}:{error.lineno}: {error.msg}") from error
        except BaseException as error:  # SystemExit ends a tick, and not the process
            raise SensorError(f"{self._line_of(error)}: {type(error).__name__}: {error}") from error

    def _text(self) -> str:
        if not self._file.is_relative_to(self._root):
            raise SensorError(f"'path' is {self._path!r}, which leads out of the project")
        try:
            return self._file.read_text("utf-8-sig")
        except FileNotFoundError:
            raise SensorError(
                f"the project has no file {self._path}; write it, or mend 'path' in the trigger's options"
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise SensorError(f"{self._path} cannot be read: {error}") from None

    def _line_of(self, error: BaseException) -> str:
        """Return the innermost place in the project's own code."""
        for frame in reversed(traceback.extract_tb(error.__traceback__)):
            if Path(frame.filename).is_relative_to(self._root):
                return f"{self._shown(frame.filename)}:{frame.lineno}, in {frame.name}"
        return self.where

    def _shown(self, filename: str | None) -> str:
        path = Path(filename or self._file)
        return str(path.relative_to(self._root)) if path.is_relative_to(self._root) else str(path)


def _named(value: Any) -> str:
    return "nothing" if value is None else f"a value of type {type(value).__name__}"
