"""What templates may do, and how much: operators, filters and methods that are checked before they work.

Jinja's sandbox keeps templates away from Python's insides, but bounds neither work nor memory:
`'a' * 200000000` is one harmless-looking operator. So everything that can make a value grow is
replaced here by a version that first computes how big the result would be.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime
from functools import partial
from itertools import islice
from types import GeneratorType
from typing import Any

from jinja2 import Environment, Undefined, pass_context, pass_environment
from jinja2.filters import FILTERS
from jinja2.runtime import Context

from pipelines.errors import MillraceError

MAX_TEXT = 4_000_000  # characters of any text that a template makes
MAX_ITEMS = 100_000  # items of any list that a template makes
MAX_INTEGER_BITS = 4096
MAX_STEPS = 200_000  # loop turns and calls in one rendering
MAX_WORK = 100_000_000  # characters and items that one rendering makes or looks through, one after the other
CHARGES_PER_LOOK = 64  # at the clock
STEPS = "_millrace_steps"  # the name under which a rendering finds its counter

_FORMAT_SPEC = re.compile(r"%(?:%|[-+ 0#]*\d{0,3}(?:\.\d{1,3})?[sdifeEgGxXo])")


class TemplateError(MillraceError):
    """A template that cannot be read or evaluated. `line` counts from 1 within its own text."""

    def __init__(self, message: str, line: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.line = line


class Steps:
    """Counts the work of one rendering, over all its loops."""

    def __init__(self, *, seconds: float | None = None) -> None:
        """`seconds` of processor time are the most that it may take."""
        self._left = MAX_STEPS
        self._room = MAX_WORK
        self._seconds = seconds
        self._began = time.thread_time()
        self._charges = 0

    def take(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise TemplateError(f"the template needs more than {MAX_STEPS:,} steps, which is the limit")

    def charge(self, work: int) -> None:
        """Count work by what it makes, and look at the clock now and then."""
        self._charges += 1
        self._room -= work
        is_late = (
            self._seconds is not None
            and self._charges % CHARGES_PER_LOOK == 0
            and time.thread_time() - self._began > self._seconds
        )
        if self._room < 0 or is_late:
            raise TemplateError("the template works on too much; make what it looks at smaller")


def charge(context: Context, work: int) -> None:
    """Charge the rendering for work; nothing outside of one."""
    steps = context.get(STEPS)
    if steps is not None:
        steps.charge(work)


def weight(value: Any) -> int:
    """Return how much there is to look at in `value`, without what lies in its items."""
    return len(value) + 1 if isinstance(value, (str, list, tuple, Mapping)) else 1


def bounded(value: Any) -> Any:
    """Return `value`, with lazy sequences made into lists. Raises TemplateError when it is too big."""
    if isinstance(value, str):
        _need(len(value), MAX_TEXT, "characters")
    elif isinstance(value, (list, tuple, dict)):
        _need(len(value), MAX_ITEMS, "items")
    elif isinstance(value, int):
        _need(value.bit_length(), MAX_INTEGER_BITS, "bits")
    elif isinstance(value, GeneratorType):
        return _listed(value)
    return value


def check_whole(value: Any) -> None:
    """Raise TemplateError when `value`, with everything in it, is too big to be written out."""
    weight, waiting = 0, [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            weight += len(item)
        elif isinstance(item, Mapping):
            waiting.extend(item.values())
            weight += sum(len(key) for key in item if isinstance(key, str))
        elif isinstance(item, (list, tuple, set, frozenset)):
            waiting.extend(item)
        elif isinstance(item, Undefined):
            str(item)  # strict: raises, and names what is missing
        weight += 1
        _need(weight + len(waiting), MAX_TEXT, "characters")


def as_text(value: Any) -> str:
    """Return `value` as a template prints it."""
    if isinstance(value, str):
        return value
    if isinstance(value, Undefined):
        return str(value)  # strict: raises, and names what is missing
    bounded(value)
    check_whole(value)
    return str(value)


def joined(values: Iterable[Any], separator: str = "") -> str:
    """Return the texts of `values` in one, checked before it is built."""
    parts = []
    total = 0
    for value in islice(values, MAX_ITEMS + 1):
        parts.append(as_text(value))
        total += len(parts[-1]) + len(separator)
        _need(total, MAX_TEXT, "characters")
    _need(len(parts), MAX_ITEMS, "items")
    return separator.join(parts)


def binary(operator: str, left: Any, right: Any, plain: Callable[[Any, Any], Any]) -> Any:
    """Apply `left operator right` through `plain`, after a look at how big the result would be."""
    if operator == "*":
        _check_product(left, right)
    elif operator == "**":
        _check_power(left, right)
    elif operator == "+" and isinstance(left, (str, list, tuple)) and isinstance(right, (str, list, tuple)):
        limit = MAX_TEXT if isinstance(left, str) else MAX_ITEMS
        _need(len(left) + len(right), limit, "characters" if isinstance(left, str) else "items")
    elif operator == "%" and isinstance(left, (str, bytes)):
        return formatted(str(left), right)
    return bounded(plain(left, right))


def formatted(pattern: str, *values: Any, **named: Any) -> str:
    """`%` formatting, with widths of three digits at most, by position only."""
    arguments = values[0] if len(values) == 1 and isinstance(values[0], tuple) else values
    if named or "%" in _FORMAT_SPEC.sub("", pattern):
        raise TemplateError(
            "format takes values by position and widths up to 999, such as '%02d' or '%.2f'; it got "
            + repr(pattern[:40])
        )
    total = len(pattern) + 1000 * pattern.count("%") + sum(len(as_text(value)) for value in arguments)
    _need(total, MAX_TEXT, "characters")
    return str(pattern % tuple(arguments))


def _check_product(left: Any, right: Any) -> None:
    for many, times in ((left, right), (right, left)):
        if isinstance(many, (str, bytes)) and isinstance(times, int):
            _need(len(many) * times, MAX_TEXT, "characters")
        elif isinstance(many, (list, tuple)) and isinstance(times, int):
            _need(len(many) * times, MAX_ITEMS, "items")
    if isinstance(left, int) and isinstance(right, int):
        _need(left.bit_length() + right.bit_length(), MAX_INTEGER_BITS, "bits")


def _check_power(base: Any, exponent: Any) -> None:
    if isinstance(base, int) and isinstance(exponent, int):
        _need(base.bit_length() * abs(exponent), MAX_INTEGER_BITS, "bits")


def _need(size: int, limit: int, unit: str) -> None:
    if size > limit:
        raise TemplateError(
            f"the result would have more than {limit:,} {unit}, which is the limit of a template"
        )


def _listed(values: Iterable[Any]) -> list[Any]:
    items = list(islice(values, MAX_ITEMS + 1))
    _need(len(items), MAX_ITEMS, "items")
    return items


# --- methods ---------------------------------------------------------------------------------------


def _replace(text: str, old: str, new: str, count: int = -1) -> str:
    found = text.count(old) if count < 0 else min(count, text.count(old))
    _need(len(text) + found * len(new), MAX_TEXT, "characters")
    return text.replace(old, new, count)


def _zfill(text: str, width: int) -> str:
    _need(width, MAX_TEXT, "characters")
    return text.zfill(width)


def _split(text: str, separator: str | None = None, maxsplit: int = -1) -> list[str]:
    if maxsplit < 0:
        maxsplit = MAX_ITEMS
    return text.split(separator, maxsplit)


def _join(separator: str, values: Iterable[Any]) -> str:
    return joined(values, separator)


def _strftime(moment: date, pattern: str) -> str:
    if re.search(r"%[^a-zA-Z%]", pattern) or len(pattern) > 200:
        raise TemplateError(
            f"strftime cannot use the pattern {pattern[:40]!r}; use plain codes such as %Y-%m-%d"
        )
    return moment.strftime(pattern)


_GUARDED: dict[tuple[type, str], Callable[..., Any]] = {
    (str, "replace"): _replace,
    (str, "zfill"): _zfill,
    (str, "split"): _split,
    (str, "join"): _join,
    (date, "strftime"): _strftime,
}

_TEXT_METHODS = """
    lower upper strip lstrip rstrip startswith endswith removeprefix removesuffix title capitalize casefold
    find rfind count partition rpartition isdigit isdecimal isnumeric isalpha isalnum islower isupper isspace
    replace zfill split join
"""
_TIME_METHODS = """
    year month day hour minute second microsecond tzinfo date time timestamp weekday isoweekday isoformat
    strftime
"""
_ALLOWED: tuple[tuple[type, frozenset[str]], ...] = (
    (str, frozenset(_TEXT_METHODS.split())),
    (Mapping, frozenset(("get", "keys", "values", "items"))),
    (list, frozenset(("index", "count"))),
    (tuple, frozenset(("index", "count"))),
    (date, frozenset(_TIME_METHODS.split())),
)


def attribute(value: Any, name: str) -> Any:
    """Return the allowed attribute `name` of `value`. Raises AttributeError for everything else."""
    for kind, names in _ALLOWED:
        if isinstance(value, kind) and name in names:
            guard = _GUARDED.get((kind, name))
            return partial(guard, value) if guard else getattr(value, name)
    raise AttributeError(name)


# --- filters ---------------------------------------------------------------------------------------


def _to_json(value: Any, indent: int | None = None) -> str:
    check_whole(value)
    if indent is not None and not 0 <= indent <= 8:
        raise TemplateError("tojson indents by 0 to 8")
    return json.dumps(value, ensure_ascii=False, indent=indent, default=_json_default)


def _json_default(value: Any) -> str:
    if isinstance(value, date):
        return value.isoformat()
    raise TemplateError(f"a {type(value).__name__} cannot be written as JSON")


def _from_json(text: str) -> Any:
    return json.loads(text)


def _sha256(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=_json_default)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _b64decode(text: str) -> str:
    return base64.b64decode(text, validate=True).decode("utf-8")


def _to_datetime(value: Any) -> datetime:
    if isinstance(value, (int, float)):
        return datetime.fromtimestamp(value, UTC)
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _to_date(value: Any) -> date:
    return _to_datetime(value).date()


def _join_filter(values: Iterable[Any], separator: str = "") -> str:
    return joined(values, separator)


def _list(values: Iterable[Any]) -> list[Any]:
    return _listed(iter(values))


@pass_environment
def _sum(environment: Environment, values: Iterable[Any], attribute: Any = None, start: Any = 0) -> Any:
    if not isinstance(start, (int, float)):
        raise TemplateError("sum adds numbers")  # lists would be copied at every step
    return FILTERS["sum"](environment, values, attribute, start)


# Only those of Jinja's filters whose work is in proportion to their input.
_FROM_JINJA = """
    abs capitalize count d default dictsort first float int items last length lower map max min reject
    rejectattr
    reverse round select selectattr sort title trim truncate unique upper urlencode
"""

_OURS: dict[str, Callable[..., Any]] = {
    "b64decode": _b64decode,
    "date": _to_date,
    "datetime": _to_datetime,
    "format": formatted,
    "fromjson": _from_json,
    "join": _join_filter,
    "list": _list,
    "replace": _replace,
    "sha256": _sha256,
    "string": as_text,
    "sum": _sum,
    "tojson": _to_json,
}


def _guarded_filter(function: Callable[..., Any]) -> Callable[..., Any]:
    wants = _wish_of(function)

    @pass_context
    def guarded(context: Context, *arguments: Any, **named: Any) -> Any:
        given = () if wants is None else (wants(context),)
        value = bounded(function(*given, *arguments, **named))
        charge(context, weight(value))
        return value

    return guarded


def _wish_of(function: Callable[..., Any]) -> Callable[[Context], Any] | None:
    """Return what Jinja is to hand to the function first; it marks such functions by an attribute."""
    mark = getattr(function, "jinja_pass_arg", None)
    wishes: Mapping[str, Callable[[Context], Any]] = {
        "context": lambda context: context,
        "eval_context": lambda context: context.eval_ctx,
        "environment": lambda context: context.environment,
    }
    return None if mark is None else wishes[mark.name]


def guarded_test(function: Any) -> Callable[..., Any]:
    """Return a test, such as `in`, that is charged for what it looks through."""
    wants = _wish_of(function)

    @pass_context
    def guarded(context: Context, *arguments: Any, **named: Any) -> Any:
        charge(context, max(map(weight, arguments)))
        given = () if wants is None else (wants(context),)
        return function(*given, *arguments, **named)

    return guarded


def allowed_filters() -> dict[str, Callable[..., Any]]:
    """Return the filters that templates may use, each with its bounds."""
    chosen = {name: FILTERS[name] for name in _FROM_JINJA.split()} | _OURS
    return {name: _guarded_filter(function) for name, function in chosen.items()}
