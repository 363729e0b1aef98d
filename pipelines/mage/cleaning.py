"""How Mage cleans the names of columns."""

from __future__ import annotations

import re
from collections.abc import Iterable
from keyword import iskeyword
from typing import Any

from pipelines.parse_fields import words

_DROPPED = re.compile(r'[\ufeff"$\n\r\t]')
# Words that get a `_` before them: keywords of any database at all, many of them names that columns have.
_RESERVED = words(
    """
    a abs absolute access action add admin after alias all also alter always analyse analyze and any are
    array as asc at attribute attributes audit authorization avg backup backward before begin between
    bigint binary bit blob bool boolean both break browse bulk by c cache call called cascade case cast
    catalog ceil chain change char character characters check checked checkpoint checksum class close
    cluster coalesce collate collation collect column column_name columns comment commit committed
    completion compress compute condition connect connection constraint constraints contains continue
    conversion convert copy corr count create cross csv cube current current_catalog current_date
    current_role current_schema current_time current_timestamp current_user cursor cycle data database
    databases date datetime day dayofmonth dayofweek dayofyear dec decimal declare default defaults
    deferrable defined degree delayed delete delimiter depth desc describe dictionary disable disk
    dispatch distinct distributed div do domain double drop dual dummy dump dynamic each element else
    enable encoding encrypted end enum equals escape every except exception exclude exclusive execute
    existing exists exit exp explain external extract false fetch fields file filter final first float
    floor flush following for force foreign forward found free freeze from full function g general
    generated get global go grant granted grants greatest group grouping handler having header heap
    hierarchy hold host hosts hour identified identity if ignore ilike immediate immutable implementation
    implicit in include including increment index indicator inherit initial initialize initially inner
    input insert instance instead int integer intersect intersection interval into is isnull isolation
    join k key keys kill language large last lateral leading least leave left length less level like
    limit lines listen ln load local localtime localtimestamp location lock login logs long loop lower m
    map match matched max maxvalue member merge method min minus minute minvalue mod mode modify month
    monthname more move name names national natural new next no none normalize not nothing notify notnull
    null nullable nulls number numeric object of off offline offset offsets old on online only open
    operation operator optimize option options or order ordering others out outer output over overlaps
    overlay owner pad parameter parameters partial partition password path percent placing plan position
    power preceding precision prefix prepare prepared preserve primary print prior privileges procedure
    process public purge quote range rank raw read reads real recursive ref references relative release
    reload rename repeat replace replication require reset resource restart restore restrict result
    return returns revoke right role rollback rollup routine row row_count row_number rowid rows rule
    save scale schema schemas scope scroll search second section security select self sensitive sequence
    server_name session session_user set sets share show shutdown signal similar simple size smallint
    some source space spatial specific sql sqrt ssl stable start starting state statement static
    statistics status storage strict string structure style substring successful sum symmetric synonym
    system system_user table table_name tables tablesample temp template temporary terminate text then
    time timestamp tinyint to top trailing transaction transform translate translation treat trigger trim
    true truncate trusted type uid under undo union unique unknown unlock unnamed unsigned until update
    upper usage use user using valid validate value values varchar variable variables verbose view
    volatile when where while window with within without work write year year_month zone
    """
)


def clean_name(name: str, *_: Any, case_sensitive: bool = False, **__: Any) -> str:
    """Return a name of letters, digits and `_`, in lower case unless case counts."""
    cleaned = re.sub(r"\W", "_", _DROPPED.sub("", name))
    if cleaned[:1].isdigit():
        cleaned = f"letter_{cleaned}"
    return cleaned if case_sensitive else cleaned.lower()


def column_names(names: Iterable[Any], *, allow_reserved_words: bool, case_sensitive: bool) -> dict[Any, str]:
    """Return what an export of Mage calls each column: cleaned, and `_` before a reserved word."""
    cleaned = {name: clean_name(str(name), case_sensitive=case_sensitive) for name in names}
    if allow_reserved_words:
        return cleaned
    return {name: f"_{text}" if text.lower() in _RESERVED else text for name, text in cleaned.items()}


def snake_case(name: str) -> str:
    """Return a column's name as the action `clean_column_name` makes it: `PULocationID`, `pu_location_id`."""
    text = re.sub(r"\s+", "_", name.strip())
    text = re.sub(r"\W", "", text)
    text = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", text)
    text = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", text).lower().strip("_")
    if text.isdigit():
        return f"number_{text}"
    return f"{text}_" if iskeyword(text) else text
