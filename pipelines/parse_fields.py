"""Reads the fields of a YAML mapping, and notes what is wrong with them instead of stopping."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, TypeVar

from pipelines.model import Problem, Severity
from pipelines.parse_yaml import Document, Path, YamlFault, read_yaml

_Converted = TypeVar("_Converted")

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_MEMORY = re.compile(r"(\d+(?:\.\d+)?)\s*(kb|mb|gb|tb|kib|mib|gib|tib|k|m|g|t)?", re.IGNORECASE)
_UNIT_MEGABYTES = {"k": 1 / 1024, "m": 1.0, "g": 1024.0, "t": 1024.0**2}


def duration_seconds(value: Any) -> float:
    """Return the seconds of `90`, `"90s"`, `"15m"`, `"1h 30m"`, `"1d"`. Raises ValueError."""
    seconds = _seconds(value)
    if seconds is None:
        raise ValueError(f"{value!r} is no span of time; write seconds, or text such as 90s, 15m, 2h, 1d")
    if not 0 < seconds < 10**9:
        raise ValueError("a span of time must be more than 0 and less than 30 years")
    return seconds


def _seconds(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    text = str(value).strip().lower()
    parts = _DURATION.findall(text)
    if parts and not _DURATION.sub("", text).strip():
        return sum(float(count) * _UNIT_SECONDS[unit] for count, unit in parts)
    return float(text) if re.fullmatch(r"\d+(\.\d+)?", text) else None


def memory_megabytes(value: Any) -> int:
    """Return the megabytes of `512`, `"512MB"`, `"2GB"`. Raises ValueError."""
    match = None if isinstance(value, bool) else _MEMORY.fullmatch(str(value).strip())
    if match is None:
        raise ValueError(f"{value!r} is no amount of memory; write megabytes, or text such as 512MB, 2GB")
    megabytes = int(float(match[1]) * _UNIT_MEGABYTES[(match[2] or "m")[0].lower()])
    if megabytes < 1:
        raise ValueError("the memory must be at least 1 MB")
    return megabytes


def words(text: str) -> frozenset[str]:
    """Return the words of `text` as a set; long lists of keys read best this way."""
    return frozenset(text.split())


def closest(word: str, known: Collection[str]) -> str:
    """Return a hint such as "; did you mean 'cron'?", or nothing."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.7)
    return f"; did you mean '{found[0]}'?" if found else ""


def _a(noun: str) -> str:
    return f"an {noun}" if noun[:1] in "aeiou" else f"a {noun}"


def listed(names: Collection[str]) -> str:
    return ", ".join(sorted(names))


@dataclass
class Findings:
    """Collects the problems of one file of one pipeline."""

    file: str
    pipeline: str | None = None
    problems: list[Problem] = field(default_factory=list)

    def error(self, line: int, message: str) -> None:
        self._add(line, Severity.ERROR, message)

    def warning(self, line: int, message: str) -> None:
        self._add(line, Severity.WARNING, message)

    def info(self, line: int, message: str) -> None:
        self._add(line, Severity.INFO, message)

    def _add(self, line: int, severity: Severity, message: str) -> None:
        self.problems.append(Problem(self.file, line, severity, message, self.pipeline))

    @property
    def error_count(self) -> int:
        return sum(problem.severity is Severity.ERROR for problem in self.problems)


def read_document(
    text: str, findings: Findings, read: Callable[[str], Document] = read_yaml
) -> Document | None:
    """Parse YAML with `read`; what is wrong with it goes to `findings`, and None comes back."""
    try:
        document = read(text)
    except YamlFault as fault:
        findings.error(fault.line, fault.message)
        return None
    for key, line in document.repeated_keys:
        findings.warning(line, f"the key '{key}' is there twice in one mapping; the last one counts")
    return document


class Section:
    """One mapping of a document, with getters that report a wrong value and return the default."""

    def __init__(self, document: Document, path: Path, findings: Findings, what: str) -> None:
        value = document.value
        for step in path:
            value = value[step]
        self._document = document
        self._path = path
        self.findings = findings
        self.what = what  # in messages: "block 'load'", "trigger 'nightly'"
        self.values: Mapping[str, Any] = value if isinstance(value, Mapping) else {}
        if value is not None and not isinstance(value, Mapping):
            findings.error(self.line(), f"{what} must be a mapping of keys and values, not {_shown(value)}")

    def unheard(self) -> Section:
        """Return the same mapping with findings of its own, for who reads it a second time."""
        return Section(self._document, self._path, Findings(self.findings.file), self.what)

    def line(self, *keys: str | int) -> int:
        return self._document.line((*self._path, *keys))

    def __contains__(self, key: str) -> bool:
        return self.values.get(key) is not None

    def get(self, key: str, default: Any = None) -> Any:
        value = self.values.get(key)
        return default if value is None else value

    def error(self, key: str, message: str) -> None:
        self.findings.error(self.line(key), f"{self.what}: {message}")

    def warning(self, key: str, message: str) -> None:
        self.findings.warning(self.line(key), f"{self.what}: {message}")

    def unknown_keys(self, kind: str, known: Collection[str]) -> None:
        """Warn of keys nobody reads. The sentence does not name the thing: it is told once per key."""
        for key in self.values:
            if key not in known:
                hint = closest(key, known)
                self.findings.warning(
                    self.line(key), f"unknown key '{key}' of {_a(kind)}; it has no effect{hint}"
                )

    def text(self, key: str, default: str = "") -> str:
        value = self.get(key)
        if value is None:
            return default
        if isinstance(value, (Mapping, list)):
            self._wrong(key, "text", value)
            return default
        return value.isoformat() if isinstance(value, date) else str(value)

    def boolean(self, key: str, default: bool) -> bool:
        value = self.get(key, default)
        if isinstance(value, bool):
            return value
        self._wrong(key, "true or false", value)
        return default

    def count(self, key: str, default: int | None = None, *, least: int = 0) -> int | None:
        value = _unquoted(self.get(key, default))
        if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= least):
            return value
        self._wrong(key, f"a whole number, {least} or more", value)
        return default

    def number(self, key: str, default: float) -> float:
        value = _unquoted(self.get(key, default))
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 10**9:
            return float(value)
        self._wrong(key, "a number, 0 or more", value)
        return default

    def seconds(self, key: str) -> float | None:
        return self._converted(key, duration_seconds)

    def megabytes(self, key: str) -> int | None:
        return self._converted(key, memory_megabytes)

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of texts; one text alone is a list of one."""
        value = self.get(key, [])
        items = [value] if isinstance(value, str) else value
        if isinstance(items, list) and not any(
            isinstance(item, (Mapping, list)) or item is None for item in items
        ):
            return tuple(str(item) for item in items)
        self._wrong(key, "a list of names", value)
        return ()

    def mapping(self, key: str) -> dict[str, Any]:
        value = self.get(key, {})
        if isinstance(value, Mapping):
            return dict(value)
        self._wrong(key, "a mapping of keys and values", value)
        return {}

    def section(self, key: str, what: str) -> Section:
        """Return the mapping under `key` as a section; an empty one when it is not there."""
        if key not in self:
            return Section(Document({}), (), self.findings, what)
        return Section(self._document, (*self._path, key), self.findings, what)

    def sections(self, key: str, what: str) -> Iterator[Section]:
        """Yield the mappings of the list under `key`."""
        value = self.get(key, [])
        if not isinstance(value, list):
            self._wrong(key, "a list", value)
            return
        for index in range(len(value)):
            yield Section(self._document, (*self._path, key, index), self.findings, what)

    def _converted(self, key: str, convert: Callable[[Any], _Converted]) -> _Converted | None:
        if key not in self or self.values[key] == "":  # as Mage's editor leaves a field that was emptied
            return None
        try:
            return convert(self.values[key])
        except ValueError as error:
            self.error(key, f"`{key}`: {error}")
            return None

    def _wrong(self, key: str, wanted: str, value: Any) -> None:
        self.error(key, f"`{key}` must be {wanted}, not {_shown(value)}")


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _unquoted(value: Any) -> Any:
    """Return a whole number that was written in quotes, as Mage's page does it, as a number."""
    return int(value) if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value) else value
