"""YAML becomes plain values with lines, and hostile YAML ends in a sentence."""

from __future__ import annotations

from datetime import date

import pytest

from pipelines.parse_templated import read_templated
from pipelines.parse_yaml import YamlFault, read_yaml

_LAUGHS = "a: &a [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


def test_values_are_plain_and_know_their_lines() -> None:
    document = read_yaml("a: 1\nb:\n- x\n- {c: 2024-01-31, d: 'no', 5: null}\n")

    assert document.value == {"a": 1, "b": ["x", {"c": date(2024, 1, 31), "d": "no", "5": None}]}
    assert [document.line(path) for path in ((), ("a",), ("b", 1), ("b", 1, "c"), ("b", 9))] == [
        1,
        1,
        4,
        4,
        2,
    ]


def test_merged_and_repeated_keys() -> None:
    document = read_yaml("base: &base {x: 1, y: 1}\nmine: {<<: *base, y: 2}\nmine: {<<: [*base], z: 3}\n")

    assert document.value["mine"] == {"x": 1, "y": 1, "z": 3}
    assert document.repeated_keys == (("mine", 3),)


@pytest.mark.parametrize(
    ("text", "line", "sentence"),
    [
        ("a: 1\nb: [1, 2\n", 2, "expected ',' or ']'"),
        ("a: {{ x }}", 1, "needs quotes"),
        ("a: b: c", 1, "check the indentation"),
        ("a:\n\tb: 1", 2, "not tabs"),
        ("a: 1\nb: 2024-02-30", 2, "'2024-02-30' is not a value"),
        ("a: !!python/object:os.system x", 1, "could not determine"),
        ("a: !thing x", 1, "is not allowed"),
        ("a: &x [*x]", 1, "nested deeper"),
        ("[" * 3000, 1, "nested deeper"),
        ("a: 1\n---\nb: 2", 2, "another document"),
        ("a: \x00", 1, "cannot be read"),
        (_LAUGHS, 1, "more than 200,000 values"),
        ("x" * 2_000_001, 1, "split it"),
    ],
)
def test_text_that_is_no_usable_yaml_is_told_with_its_line(text: str, line: int, sentence: str) -> None:
    with pytest.raises(YamlFault) as fault:
        read_yaml(text)

    assert sentence in fault.value.message
    assert fault.value.line == line


def test_templates_stand_as_they_were_written_quoted_or_not() -> None:
    document = read_templated(
        "a: {{ env_var('X') }}\nb: \"x-{{ secret('y') }}\" # {{ gone }}\n{# no #}\nc: 1\n"
    )

    assert document.value == {"a": "{{ env_var('X') }}", "b": "x-{{ secret('y') }}", "c": 1}
    assert document.line(("c",)) == 4
    assert document.plain == {("a",)}
