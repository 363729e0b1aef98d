"""What every connector is: made from a profile, used as a context manager, with load, export and execute."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from enum import StrEnum
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

from pipelines.context import current_block
from pipelines.io.errors import ConnectorError, ExportRefused
from pipelines.io.frames import to_reader

if TYPE_CHECKING:
    import pyarrow as pa

    from pipelines.io.config import Profile


class IfExists(StrEnum):
    """What an export does when its target is there already."""

    REPLACE = "replace"  # the new rows take the place of the old ones, all at once
    APPEND = "append"  # the new rows join the old ones
    FAIL = "fail"  # nothing is written
    MERGE = "merge"  # rows with the same key are updated, the others added


class OnConflict(StrEnum):
    """What a merge does with a row whose key is in the table."""

    UPDATE = "update"
    IGNORE = "ignore"


@dataclass(frozen=True, slots=True)
class Policy:
    """How an export treats what is there."""

    if_exists: IfExists
    keys: tuple[str, ...] = ()
    on_conflict: OnConflict = OnConflict.UPDATE

    @classmethod
    def of(
        cls,
        if_exists: str,
        *,
        keys: str | list[str] | tuple[str, ...] | None = None,
        unique_constraints: str | list[str] | tuple[str, ...] | None = None,
        unique_conflict_method: str | None = None,
    ) -> Policy:
        """Read the arguments of an export; Mage's `unique_*` pair means a merge."""
        wanted = _listed(keys) or _listed(unique_constraints)
        method = _choice(OnConflict, unique_conflict_method or "update", "unique_conflict_method")
        policy = _choice(IfExists, if_exists, "if_exists")
        if policy is IfExists.APPEND and wanted and unique_conflict_method:
            policy = IfExists.MERGE
        if policy is IfExists.MERGE and not wanted:
            raise ExportRefused("if_exists='merge' needs `keys`: the columns that identify a row")
        return cls(policy, wanted, method)

    def of_next_write(self, target: str) -> Policy:
        """Return what the coming write to a target is to do.

        In a function that is called for each batch of its input, the first call replaces, and the others
        append: the rows of one run are one export.
        """
        context = current_block.get()
        if context is None or self.if_exists not in (IfExists.REPLACE, IfExists.FAIL):
            return self
        return self if context.effects.replaces(target) else replace(self, if_exists=IfExists.APPEND)


def _listed(names: str | list[str] | tuple[str, ...] | None) -> tuple[str, ...]:
    if names is None:
        return ()
    return (names,) if isinstance(names, str) else tuple(names)


_Choice = TypeVar("_Choice", bound=StrEnum)


def _choice(kind: type[_Choice], value: str, argument: str) -> _Choice:
    try:
        return kind(str(value).lower())
    except ValueError:
        known = ", ".join(repr(member.value) for member in kind)
        raise ExportRefused(f"{argument}={value!r} is not known; use one of {known}") from None


# Keywords of Mage that change nothing here: messages, and the cleaning of names, which we leave to blocks.
_MAGE_KEYWORDS = frozenset(
    {
        "allow_reserved_words",
        "auto_clean_name",
        "case_sensitive",
        "display_query",
        "drop_table_on_replace",
        "query_string",
        "skip_semicolon_at_end",
        "verbose",
    }
)


def refuse_unknown(method: str, keywords: dict[str, Any]) -> None:
    """Raise TypeError for keywords that neither we nor Mage have."""
    unknown = sorted(set(keywords) - _MAGE_KEYWORDS)
    if unknown:
        raise TypeError(f"{method}() got unknown keyword(s) {', '.join(unknown)}")


def without_mage_keywords(keywords: dict[str, Any]) -> dict[str, Any]:
    """Return the keywords that are not only Mage's."""
    return {name: value for name, value in keywords.items() if name not in _MAGE_KEYWORDS}


class Connector(ABC):
    """Reads and writes one outside system.

    Inside `with` one connection serves all calls. Without it every call opens and closes its own.
    Each call is one transaction. An export inside a block is written once, however often the block
    is tried: see `pipelines.io.effects`.
    """

    name: ClassVar[str]

    @classmethod
    def from_profile(cls, profile: Profile | str = "default") -> Self:
        """Make a connector from a profile of `io_config.yaml`, or from its name inside a block."""
        return cls._from_settings(_resolved(profile))

    @classmethod
    @abstractmethod
    def _from_settings(cls, profile: Profile) -> Self:
        """Read the keys this connector needs; ProfileError names one that is missing."""

    @abstractmethod
    def load(self, query: str, /, *where: Any, **options: Any) -> Any:
        """Return rows as a frame, with the types they have outside.

        `frame` says of which kind: "pandas" (the default), "arrow" or "polars".
        """

    def stream(self, query: str, /, *where: Any, **options: Any) -> pa.RecordBatchReader:
        """Return rows as Arrow batches, for one pass: for what is larger than memory."""
        return to_reader(self.load(query, *where, **options))

    @abstractmethod
    def export(self, df: Any, /, *target: Any, **options: Any) -> int:
        """Write a frame and return how many rows were written."""

    @abstractmethod
    def execute(self, query: str, **binds: Any) -> int:
        """Run statements in one transaction and return how many rows the last one touched."""

    @abstractmethod
    def close(self) -> None:
        """Give back what is held; harmless when nothing is."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _resolved(profile: Profile | str) -> Profile:
    if not isinstance(profile, str):
        return profile
    context = current_block.get()
    if context is None:
        raise ConnectorError(
            f"profile {profile!r} can be named only inside a running block; "
            "elsewhere pass a Profile: Profiles(root, ...).profile(name)"
        )
    return context.profiles.profile(profile)
