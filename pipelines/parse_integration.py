"""Checks the YAML of a data integration block without dlt, and names what it may say."""

from __future__ import annotations

from pipelines.parse_fields import Findings, Section, closest, listed, read_document
from pipelines.parse_templated import read_templated
from pipelines.templating import holds_template

SOURCES = ("filesystem", "rest_api", "sql_database")
DESTINATIONS = ("bigquery", "duckdb", "filesystem", "postgres")
DISPOSITIONS = ("append", "merge", "replace")
HINTS = ("write_disposition", "primary_key", "incremental")
KEYS = ("source", "destination", "resources", *HINTS)


def check_integration(name: str, text: str, findings: Findings) -> None:
    """Report what is wrong with a block's YAML whatever the run's variables are."""
    document = read_document(text, findings, read_templated)
    if document is None:
        return
    whole = Section(document, (), findings, f"block '{name}'")
    for key in whole.values:
        if key not in KEYS:
            whole.error(key, f"unknown key '{key}'; it may have {listed(KEYS)}{closest(str(key), KEYS)}")
    source = whole.section("source", f"block '{name}', source")
    destination = whole.section("destination", f"block '{name}', destination")
    if "source" not in whole:
        findings.error(1, f"block '{name}': it has no `source`; say what is loaded")
    else:
        _check_choice(source, "type", SOURCES)
    if "type" in destination:
        _check_choice(destination, "type", DESTINATIONS)
    if "write_disposition" in whole:
        _check_choice(whole, "write_disposition", DISPOSITIONS)


def _check_choice(section: Section, key: str, choices: tuple[str, ...]) -> None:
    given = section.get(key)
    if given not in choices and not holds_template(given):
        said = f"`{key}` is {given!r}" if key in section else f"it has no `{key}`"
        section.error(key, f"{said}; it may be one of {listed(choices)}{closest(str(given), choices)}")
