"""Data that a stranger chose, in templates that look harmless: bounded work, and one short sentence."""

from __future__ import annotations

import time
from typing import Any

import pytest

from pipelines.templating import TemplateError, expression


def nested(depth: int) -> list[Any]:
    outer: list[Any] = []
    inner = outer
    for _ in range(depth):
        inner.append([])
        inner = inner[0]
    return outer


EVENT = {
    "data": {
        "text": "a" * 3_000_000,
        "part": "b" * 500_000,
        "numbers": list(range(100_000)),
        "texts": [str(number) for number in range(100_000)],
        "lists": [[1] * 300] * 3000,
        "deep": nested(5000),
    }
}


@pytest.mark.parametrize(
    "text",
    [
        "{{ event.data.numbers | select('in', event.data.texts) | list }}",
        "{{ event.data.texts | select('in', event.data.text) | list }}",
        "{{ event.data.texts | map('replace', '1', event.data.part) | map('length') | list }}",
        "{{ event.data.lists | sum(start=[]) }}",
        "{{ event.data.text | replace('a', event.data.text) }}",
        "{{ event.data.text.split('a') }}",
        "{{ event.data.text | datetime }}",
        "{{ event.data.text.nothing }}",
        "{{ event.data[event.data.text] }}",
        "{{ event.data.deep | tojson }}",
        "{{ event.data.deep | sha256 }}",
        "key-{{ event.data.deep }}",
    ],
)
def test_work_on_hostile_data_ends_in_a_short_sentence(text: str) -> None:
    compiled = expression(text)
    began = time.thread_time()

    with pytest.raises(TemplateError) as caught:
        compiled.evaluate(event=EVENT)

    assert time.thread_time() - began < 4
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{{ event.data.texts | map('int') | map('string') | list | length }}", 100_000),
        ("{{ event.data.numbers | select('odd') | sum }}", 2_500_000_000),
        ("{{ event.data.text | upper | length }}", 3_000_000),
        ("{{ '77' in event.data.texts }}", True),
    ],
)
def test_honest_work_on_much_data_is_done(text: str, value: Any) -> None:
    assert expression(text).evaluate(event=EVENT) == value
