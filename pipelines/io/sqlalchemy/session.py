"""One connection at work: what it has to do when its transaction ends, and how an effect is recorded.

Databases such as MySQL commit by themselves at every CREATE and RENAME. There a table that is made anew is
filled aside, under a name made of the effect id, and takes its place when all is done:

1. COMMIT: the rows aside, and the effect with the renaming that is due (`pending`).
2. RENAME: one statement, atomic.
3. The effect is no longer pending; the old table is dropped.

Before 1 nothing has happened: the next attempt drops what lies aside and begins anew. Between 1 and 3
the table aside tells how far it came: while it is there the renaming is still due, and when it is gone
the renaming is done. The next attempt finishes it, and does not write.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pipelines.io.effects import EFFECTS_TABLE, Effect
from pipelines.io.sqltext import Relation

if TYPE_CHECKING:
    from pipelines.io.sqlalchemy.dialect import Dialect

_EFFECT_LENGTH = 255  # characters; a longer text can be no key in MySQL


@dataclass
class Session:
    """A connection within one transaction."""

    connection: sa.Connection
    dialect: Dialect
    schema: str | None  # of tables that are named without one; None where the database has but one
    mark: str = field(default_factory=lambda: uuid.uuid4().hex[:16])  # makes the names of tables aside
    swaps: list[tuple[Relation, Relation]] = field(default_factory=list)  # (aside, target), due at the end
    locks: list[str] = field(default_factory=list)
    scratch: list[str] = field(default_factory=list)  # tables that nobody needs after the transaction

    def execute(self, statement: str, values: Mapping[str, Any] | tuple[Any, ...] = ()) -> Any:
        """Send a statement as it is; with `values`, in the driver's own way to name them."""
        return self.connection.exec_driver_sql(statement, values or None)

    def quoted(self, name: str) -> str:
        return self.dialect.quoted(name)

    def sql(self, relation: Relation) -> str:
        return self.dialect.relation(relation)

    def lock(self, name: str) -> None:
        """Hold all others who make or change the thing of that name, where the database can."""
        if name not in self.locks:
            self.dialect.lock(self, name)
            self.locks.append(name)

    def aside(self, target: Relation) -> Relation:
        """Return where a table is filled before it takes the place of `target`."""
        return Relation(target.schema, f"millrace_new_{self.mark}")


class Ledger:
    """Effect ids in a table of the same database; see `pipelines.io.effects`."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._connection = session.connection
        self._effect: Effect | None = None
        self._rows = 0
        self._table = _effects_table(session.schema)

    def create(self) -> None:
        """Make the table of effects unless it is there, in a transaction of its own."""
        try:
            if not self._is_there():
                self._session.dialect.create_schema(self._session, self._session.schema)
                # Two at once: one of them is refused, and then finds it made.
                with suppress(sa.exc.DBAPIError):
                    self._table.create(self._connection)
                self._connection.commit()
        finally:
            self._connection.rollback()

    def begin(self) -> None:
        self._session.dialect.begin_writing(self._session)

    def claim(self, effect: Effect) -> int | None:
        self._effect = effect
        self._session.mark = hashlib.sha256(effect.id.encode()).hexdigest()[:16]
        self._session.lock(f"effect {effect.id}")
        table = self._table
        found = self._connection.execute(
            sa.select(table.c.rows, table.c.pending).where(table.c.effect_id == effect.id[:_EFFECT_LENGTH])
        ).first()
        if found is None:
            return None
        if found.pending:
            self._finish(json.loads(found.pending))
        return int(found.rows)

    def record(self, effect: Effect, rows: int) -> None:
        self._connection.execute(
            self._table.insert().values(
                effect_id=effect.id[:_EFFECT_LENGTH],
                target=effect.target[:_EFFECT_LENGTH],
                rows=rows,
                written_at=sa.func.now(),
                pending=self._pending(),
            )
        )

    def commit(self) -> None:
        session = self._session
        for table in session.scratch:
            session.dialect.drop_scratch(session, table)
        self._connection.commit()
        swaps, session.swaps = session.swaps, []
        if swaps:
            self._swap(swaps)

    def rollback(self) -> None:
        session = self._session
        with suppress(sa.exc.DBAPIError):
            self._connection.rollback()
            for aside, _ in session.swaps:
                session.execute(f"DROP TABLE IF EXISTS {session.sql(aside)}")

    def _swap(self, swaps: list[tuple[Relation, Relation]]) -> None:
        if self._effect is None:
            try:
                self._rename(swaps)
            except BaseException:
                self._session.swaps = swaps  # nobody will come and finish it
                raise
            return
        self._effect.crash("effect.before_rename")
        self._rename(swaps)
        self._effect.crash("effect.after_rename")
        self._is_done()

    def _rename(self, swaps: list[tuple[Relation, Relation]]) -> None:
        for aside, target in swaps:
            self._session.dialect.put_in_place(self._session, aside, target)

    def _finish(self, pending: list[dict[str, Any]]) -> None:
        """Do what an earlier attempt left undone."""
        session = self._session
        for swap in pending:
            aside, target = Relation(swap["schema"], swap["aside"]), Relation(swap["schema"], swap["target"])
            if session.dialect.columns_of(session, aside) is not None:
                session.dialect.put_in_place(session, aside, target)
        self._is_done()

    def _is_done(self) -> None:
        assert self._effect is not None
        mine = self._table.c.effect_id == self._effect.id[:_EFFECT_LENGTH]
        self._connection.execute(self._table.update().where(mine).values(pending=None))
        self._connection.commit()

    def _pending(self) -> str | None:
        swaps = [
            {"schema": target.schema, "aside": aside.name, "target": target.name}
            for aside, target in self._session.swaps
        ]
        return json.dumps(swaps) if swaps else None

    def _is_there(self) -> bool:
        return sa.inspect(self._connection).has_table(EFFECTS_TABLE, schema=self._session.schema)


def _effects_table(schema: str | None) -> sa.Table:
    return sa.Table(
        EFFECTS_TABLE,
        sa.MetaData(),
        sa.Column("effect_id", sa.String(_EFFECT_LENGTH), primary_key=True),
        sa.Column("target", sa.String(_EFFECT_LENGTH), nullable=False),
        sa.Column("rows", sa.BigInteger, nullable=False),
        sa.Column("written_at", sa.DateTime, nullable=False),
        sa.Column("pending", sa.Text),
        schema=schema,
    )
