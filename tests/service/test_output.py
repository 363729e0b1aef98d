from __future__ import annotations

from io import StringIO

from rich.console import Console

from service.cli.output import table
from service.store.ids import new_id


def test_ids_stay_whole_on_a_narrow_terminal() -> None:
    run, event = new_id(), new_id()
    shown = StringIO()

    Console(file=shown, width=80).print(
        table(
            ("run", "pipeline", "state", "trigger", "created", "event"),
            [(run, "a_pipeline", "succeeded", "a_trigger_of_it", "2024-01-31T05:00:00Z", event)],
        )
    )

    assert run in shown.getvalue()
    assert event in shown.getvalue()
