"""How a SQL block executes: its text rendered, its inputs made tables, its statements run in one transaction.

A block that is not raw is one query; its rows go into a table under the block's write policy. A raw
block is statements as they are. What a block writes is written once, however often it is tried.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from pipelines.blocks.sql_faults import located
from pipelines.blocks.sql_settings import SqlSettings, connector_class, functions_of, names_of, place_of
from pipelines.context import BlockContext
from pipelines.errors import BlockCodeError, MillraceError
from pipelines.io.errors import ExportRefused, QueryFailed
from pipelines.io.sqlconnector import SqlConnector
from pipelines.io.sqltext import Relation, first_word, only_reads, without_comments
from pipelines.mage.databases import under_names_of_mage
from pipelines.model import Block
from pipelines.sql_templates import render_sql
from pipelines.template_places import PlacedText
from pipelines.template_sql import SqlWords

_TRANSACTION_WORDS = frozenset({"ABORT", "BEGIN", "COMMIT", "END", "ROLLBACK", "START"})

# The table that a statement makes or changes: what a raw block gives when it ends in no query.
_CHANGED_TABLE = re.compile(
    r"""^\s*(?:CREATE\s+(?:OR\s+REPLACE\s+)?(?:TEMP(?:ORARY)?\s+)?TABLE(?:\s+IF\s+NOT\s+EXISTS)?
           |INSERT\s+INTO|UPDATE|MERGE\s+INTO)\s+
        (?P<table>(?:"(?:[^"]|"")+"|`[^`]+`|[\w-]+)(?:\.(?:"(?:[^"]|"")+"|`[^`]+`|\w+))*)""",
    re.IGNORECASE | re.VERBOSE,
)


def run_sql(context: BlockContext, inputs: Sequence[Any]) -> tuple[Any, ...]:
    """Execute the block and return its rows, as one frame, for those who come after it.

    A block that nothing follows returns what a raw query returns, and else nothing.
    """
    settings = SqlSettings.of(context, context.block)
    connector = connector_class(settings.provider).from_profile(context.profiles.profile(settings.profile))
    connector = connector.in_schema(settings.schema)
    tables = [_InputTable.of(context, connector, place, data) for place, data in enumerate(inputs)]
    text = _rendered(context, connector, tables, inputs)
    found = connector.statements(text)
    if not found:
        return _nothing(context)
    execution = _Execution(context, settings, connector, tables)
    try:
        with connector:  # one connection writes the rows and reads them for those who come after
            return execution.raw(text, found) if settings.is_raw else execution.query(found)
    except (ExportRefused, QueryFailed) as error:
        where = located(error, text, (*found, text), context.block.path)
        # Raw SQL writes to no one table: what it is called among the effects says nothing to a reader.
        said = str(error).removeprefix(f"cannot write to {execution.effect_name}: ")
        raise type(error)(f"{where}: {said}") from error


def _nothing(context: BlockContext) -> tuple[Any, ...]:
    """Do nothing for a text of comments only, which Mage's templates are; others are told of it."""
    said = f"{context.block.path} holds no statement"
    if not context.block.is_of_mage:
        raise BlockCodeError(said)
    context.logger.warning("%s, so nothing is done", said)
    return ()


@dataclass
class _InputTable:
    """The output of an upstream block as `{{ df_1 }}`: it becomes a table only if the text uses it."""

    number: int
    block: str
    data: Any
    connector: SqlConnector
    is_renamed: bool  # its columns get the names that Mage would give them
    table: Relation | None = None  # where the rows are already, in the same database
    is_used: bool = field(default=False, init=False)

    @classmethod
    def of(cls, context: BlockContext, connector: SqlConnector, place: int, data: Any) -> _InputTable:
        name = context.upstream[place]
        block = context.block
        # BigQuery keeps names in Mage as well.
        is_renamed = block.is_of_mage and place_of(context, block)[0] != "bigquery"
        table = _table_of(context, connector, context.pipeline.block(name))
        return cls(place + 1, name, data, connector, is_renamed, table)

    def __str__(self) -> str:
        self.is_used = True
        if self.table is not None:
            return self.connector.table_sql(self.table)
        return self.connector.staged_sql(self.name)

    def __len__(self) -> int:
        """Return how many rows there are, for `{% if df_1 | length > 0 %}`."""
        if self.table is None:
            return 0 if self.data is None else len(self.data)
        counted = self.connector.load(f"SELECT count(*) AS n FROM {self.connector.table_sql(self.table)}")
        return int(counted["n"].iloc[0])

    def __bool__(self) -> bool:
        return self.table is not None or self.data is not None

    @property
    def name(self) -> str:
        return f"df_{self.number}"

    def stage(self, connector: SqlConnector, session: Any) -> None:
        """Make the rows a table of this session, if the text wants them and they are none yet."""
        if not self.is_used or self.table is not None:
            return
        if self.data is None:
            raise BlockCodeError(f"{{{{ {self.name} }}}} is no table: block {self.block!r} returned nothing")
        try:
            data = under_names_of_mage(self.data) if self.is_renamed else self.data
            connector.stage(session, self.name, data)
        except ExportRefused as error:
            raise ExportRefused(
                f"{{{{ {self.name} }}}}, the output of block {self.block!r}: {error}"
            ) from error


def _table_of(context: BlockContext, connector: SqlConnector, block: Block) -> Relation | None:
    """Return the table that an upstream SQL block has written in the very database that we read."""
    if not _is_read_in_place(context, writer=block, reader=context.block):
        return None
    own = {"block_uuid": block.name, "configuration": dict(block.configuration)}
    theirs = SqlSettings.of(replace(context, block=block, keywords={**context.keywords, **own}), block)
    return connector.relation(theirs.schema, theirs.table)


def _is_read_in_place(context: BlockContext, *, writer: Block, reader: Block) -> bool:
    """Tell whether a block finds the rows of another where that one has written them."""
    if not writer.language == reader.language == "sql" or writer.configuration.get("use_raw_sql"):
        return False
    try:
        place = place_of(context, writer)
        if place != place_of(context, reader):
            return False
    except MillraceError:
        return False  # whichever of them it is says so itself
    return context.profiles.profile(place[1]).get("DUCKDB_DATABASE") != ":memory:"


def _rendered(
    context: BlockContext, connector: SqlConnector, tables: Sequence[_InputTable], inputs: Sequence[Any]
) -> PlacedText:
    names = {
        **names_of(context),
        **{table.name: table for table in tables},
        **functions_of(context),
        "block_output": partial(_block_output, context, tables, inputs),
    }
    words = SqlWords(connector.literal, connector.quoted)
    return render_sql(context.source, names, words=words, file=context.block.path)


def _block_output(
    context: BlockContext,
    tables: Sequence[_InputTable],
    inputs: Sequence[Any],
    name: str | None = None,
    parse: Callable[[Any, Mapping[str, Any]], Any] | None = None,
) -> Any:
    """Return what an upstream block returned; without a name, what all of them did, as a list.

    A frame stands for a table, unless `parse` picks something from it.
    """
    if name is None:
        data: Any = list(inputs)
    elif name in context.upstream:
        place = context.upstream.index(name)
        table, data = tables[place], inputs[place]
        if parse is None and (table.table is not None or hasattr(data, "columns")):
            return table
    else:
        raise QueryFailed(f"block_output({name!r}): the block has no such upstream block")
    return data if parse is None else parse(data, names_of(context))


@dataclass(frozen=True)
class _Execution:
    """One execution of rendered text."""

    context: BlockContext
    settings: SqlSettings
    connector: SqlConnector
    tables: Sequence[_InputTable]

    def query(self, found: Sequence[str]) -> tuple[Any, ...]:
        """Write the rows of the one query into the block's table."""
        if len(found) != 1:
            raise BlockCodeError(
                f"{self.context.block.path} holds {len(found)} statements; a SQL block is one query, "
                f"unless its configuration says use_raw_sql: true"
            )
        target = self.connector.relation(self.settings.schema, self.settings.table)

        def write(session: Any) -> int:
            self._stage(session)
            return self.connector.write_query(session, found[0], target, self.settings.policy)

        self.connector.write_once(str(target), write)
        return self._rows_for_others(self.connector.table_sql(target))

    def raw(self, text: str, written: Sequence[str]) -> tuple[Any, ...]:
        """Run statements as they are; the rows of the last one, if it is a query, are the output."""
        found = self._within_our_transaction(written)
        if self.settings.is_whole:
            return self._whole(text if found == written else ";\n".join(found))
        if all(only_reads(statement) for statement in found):
            return (self._in_transaction(lambda session: self._last(session, found)),)
        return self._writing(found)

    def _within_our_transaction(self, found: Sequence[str]) -> Sequence[str]:
        """Leave out a BEGIN and a COMMIT around all statements: what they ask for holds of the block anyway.

        Any other would end the transaction that the effect of the block is recorded in, so that another try
        could not tell what was done.
        """
        if self.settings.provider == "bigquery":
            return found  # there each statement is a job that runs once
        words = [first_word(statement) for statement in found]
        if len(found) > 2 and words[0] in ("BEGIN", "START") and words[-1] in ("COMMIT", "END"):
            found, words = found[1:-1], words[1:-1]
        for word in words:
            if word in _TRANSACTION_WORDS:
                raise BlockCodeError(
                    f"{self.context.block.path} holds {word}; a SQL block is one transaction as a whole, "
                    f"so take {word} out, or make two blocks of it"
                )
        return found

    def _whole(self, text: str) -> tuple[Any, ...]:
        self.connector.write_once(self.effect_name, lambda session: self._run(session, [text]))
        return ()

    def _writing(self, found: Sequence[str]) -> tuple[Any, ...]:
        """Run statements that change something, once; then give what the last of them shows."""
        outputs: list[Any] = []
        ends_in_query = only_reads(found[-1])

        def write(session: Any) -> int:
            outputs.clear()  # of a try that the database has rolled back
            touched = self._run(session, found[:-1] if ends_in_query else found)
            if ends_in_query:
                outputs.append(self._read(session, found[-1]))
            return touched

        self.connector.write_once(self.effect_name, write)
        if outputs:
            return tuple(outputs)
        if ends_in_query:
            # An earlier attempt wrote, and died with its output.
            return (self._in_transaction(lambda session: self._last(session, found[-1:])),)
        changed = _CHANGED_TABLE.match(without_comments(found[-1]))
        return self._rows_for_others(changed["table"]) if changed else ()

    @property
    def effect_name(self) -> str:
        return f"sql:{self.context.block.name}"

    def _stage(self, session: Any) -> None:
        for table in self.tables:
            table.stage(self.connector, session)

    def _run(self, session: Any, found: Sequence[str]) -> int:
        self._stage(session)
        return sum(self.connector.run(session, statement) for statement in found)

    def _last(self, session: Any, found: Sequence[str]) -> Any:
        self._run(session, found[:-1])
        return self._read(session, found[-1])

    def _read(self, session: Any, statement: str) -> Any:
        return self.connector.read(session, statement, limit=self.settings.limit)

    def _in_transaction(self, work: Callable[[Any], Any]) -> Any:
        with self.connector.transaction() as session:
            return work(session)

    def _rows_for_others(self, table: str) -> tuple[Any, ...]:
        """Return the table's rows, unless nothing would read them anywhere but in the table."""
        context = self.context
        following = [context.pipeline.block(name) for name in context.pipeline.downstream(context.block.name)]
        in_place = all(_is_read_in_place(context, writer=context.block, reader=block) for block in following)
        if in_place and not context.block.checks:
            return ()
        return (self.connector.load(f"SELECT * FROM {table}", limit=self.settings.limit),)
