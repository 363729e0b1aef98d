"""Where in a query BigQuery found a fault; the emulator does not tell."""

from __future__ import annotations

import pytest

from pipelines.io.bigquery.queries import placed
from pipelines.io.errors import QueryFailed


def test_the_place_at_the_end_of_the_sentence_is_kept_with_the_error() -> None:
    query = "SELECT\n  nothing\nFROM t"

    with pytest.raises(QueryFailed) as failed, placed(query):
        raise QueryFailed("Unrecognized name: nothing at [2:3]")

    error = failed.value
    assert error.statement == query
    assert query[error.offset :].startswith("nothing")


def test_a_sentence_without_a_place_has_none() -> None:
    with pytest.raises(QueryFailed) as failed, placed("SELECT 1"):
        raise QueryFailed("Access Denied")

    assert failed.value.offset is None
