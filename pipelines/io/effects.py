"""Writes that happen once, however often their block is tried.

Inside a block every export has an effect id, the same over all attempts. The database that takes the
rows takes the id as well, in the same transaction; so an id that is there says that the rows are there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, Self
from uuid import uuid4

from pipelines.context import BlockContext, current_block

EFFECTS_TABLE = "millrace_effects"
EFFECTS_COLUMNS = (
    "effect_id text PRIMARY KEY, target text NOT NULL, rows bigint NOT NULL, written_at timestamptz NOT NULL"
)


@dataclass(frozen=True, slots=True)
class Effect:
    """One write of one block, by name."""

    id: str
    target: str
    context: BlockContext

    @classmethod
    def next(cls, target: str) -> Effect | None:
        """Name the coming write of the block that runs in this thread; None outside of blocks."""
        context = current_block.get()
        if context is None:
            return None
        return cls(context.effects.next(target), target, context)

    def found(self, rows: int) -> None:
        """Say that an earlier attempt has written this already."""
        self.context.logger.info(
            "%s: %d rows were written by an earlier attempt; not written again", self.target, rows
        )

    def crash(self, point: str) -> None:
        self.context.crash(point)


@dataclass(frozen=True)
class Write:
    """One write to where no transaction is: of a block, or, without `effect`, of anybody, once."""

    id: str
    effect: Effect | None

    @classmethod
    def next(cls, target: str) -> Self:
        effect = Effect.next(target)
        return cls(uuid4().hex if effect is None else effect.id, effect)

    @property
    def token(self) -> str:
        """The id as a part of names; the same for each try."""
        return hashlib.sha256(self.id.encode()).hexdigest()[:16]

    def crash(self, point: str) -> None:
        if self.effect is not None:
            self.effect.crash(point)

    def found(self, rows: int) -> None:
        """Say that an earlier try has written this already."""
        if self.effect is not None:
            self.effect.found(rows)

    def wrote(self, rows: int) -> None:
        if self.effect is not None:
            self.effect.context.effects.wrote(rows)


class Ledger(Protocol):
    """A database's own way to keep effect ids beside its data."""

    def begin(self) -> None: ...

    def commit(self) -> None: ...

    def rollback(self) -> None: ...

    def claim(self, effect: Effect) -> int | None:
        """Return the rows of the effect if it is recorded; else None, and nobody else may record it now."""

    def record(self, effect: Effect, rows: int) -> None:
        """Record the claimed effect."""


def write_once(ledger: Ledger, effect: Effect | None, write: Callable[[], int]) -> int:
    """Run `write` and record its effect in one transaction; skip it when the effect is recorded already."""
    if effect is None:
        with transaction(ledger):
            return write()
    with transaction(ledger):
        rows = ledger.claim(effect)
        if rows is None:
            rows = write()
            ledger.record(effect, rows)
            effect.crash("effect.before_commit")
        else:
            effect.found(rows)
    effect.crash("effect.after_commit")
    effect.context.effects.wrote(rows)
    return rows


@contextmanager
def transaction(ledger: Ledger) -> Iterator[None]:
    """Commit at the end, or roll back when anything at all goes wrong."""
    ledger.begin()
    try:
        yield
        ledger.commit()
    except BaseException:
        ledger.rollback()
        raise
