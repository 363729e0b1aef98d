"""Global data products with real worker processes: made once, used while they are fresh."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from service.cli.root import millrace
from service.store.values import RunState
from tests.parts.projects import BlockFile, write
from tests.parts.service import run_millrace
from tests.service.test_calls import Calls

HOUR = {"outdated_after": {"hours": 1}}
SECOND_OLD = {"outdated_after": {"seconds": 0}}


class Products(Calls):
    """A pipeline `maker` makes the product `numbers`; `consumer` uses it."""

    def product(self, **keys: Any) -> None:
        entry = {"object_type": "pipeline", "object_uuid": "maker", **keys}
        lines = "\n".join(f"  {key}: {value}" for key, value in entry.items())
        write(self.root / "global_data_products.yaml", f"numbers:\n{lines}\n")
        self.pipeline(
            "maker",
            self.block("first", "return 1"),
            # More than fits into the block's row, so that it lies in a file.
            self.block("last", "note(kwargs)\nreturn [args[0], 2, 'x' * 9000]", upstream=["first"]),
        )

    def giving(self, name: str) -> BlockFile:
        configuration = {"global_data_product": {"uuid": "numbers"}}
        return BlockFile(name, "", type="global_data_product", keys={"configuration": configuration})

    def consumer(self, name: str = "consumer") -> None:
        takes = self.block(f"{name}_takes", "note(kwargs, f' {args[0][:2]}')", upstream=[f"{name}_gives"])
        self.pipeline(name, self.giving(f"{name}_gives"), takes)

    def shown(self, *arguments: str) -> str:
        """Return what a command prints."""
        result = CliRunner().invoke(millrace, [*arguments, "--project", str(self.root)])
        assert result.exit_code == 0, result.output
        return result.stdout

    def listed(self, *filters: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = json.loads(self.shown("runs", "list", *filters, "--json"))["items"]
        return items


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Products]:
    bench = Products(tmp_path)
    yield bench
    bench.close()


def test_consumers_of_an_old_product_share_one_run_that_serves_later_ones_while_it_is_there(
    bench: Products,
) -> None:
    """In one slot: who waits for the product is parked."""
    bench.product(**HOUR)
    bench.consumer("one")
    bench.consumer("two")
    bench.start(slots=1)

    runs = [bench.finished(run_id) for run_id in [bench.launch("one"), bench.launch("two")]]
    fresh = bench.finished(bench.launch("one"))
    now = datetime.now(UTC)

    assert [(run.state, run.error) for run in (*runs, fresh)] == [(RunState.SUCCEEDED, None)] * 3
    (made,) = bench.all_of("maker")
    assert made.parent_run_id == runs[0].id
    assert sorted(bench.journal()) == ["last", "one_takes [1, 2]", "one_takes [1, 2]", "two_takes [1, 2]"]
    # Woken by the end of the run, long before they would look by themselves.
    assert all((run.finished_at or now) - (run.started_at or now) < timedelta(seconds=9) for run in runs)

    # Outputs that are gone are made again.
    assert bench.runtime is not None
    shutil.rmtree(bench.runtime.settings.checkpoints / made.id)
    again = bench.finished(bench.launch("one"))

    assert (again.state, again.error) == (RunState.SUCCEEDED, None)
    assert len(bench.all_of("maker")) == 2


def test_a_block_of_mages_editor_gives_a_mapping_of_what_each_block_returned(bench: Products) -> None:
    bench.product(**HOUR, settings={"first": {}, "last": {}})
    gives = bench.giving("gives")
    gives.keys["all_upstream_blocks_executed"] = True
    body = "note(kwargs, f\" {args[0]['first']} {args[0]['last'][:2]}\")"
    bench.pipeline("consumer", gives, bench.block("takes", body, upstream=["gives"]))
    bench.start(slots=1)

    run = bench.finished(bench.launch("consumer"))

    assert (run.state, run.error) == (RunState.SUCCEEDED, None)
    assert bench.journal() == ["last", "takes [1] [1, 2]"]


def test_a_product_that_fails_fails_its_consumers_and_the_next_try_makes_it_anew(bench: Products) -> None:
    bench.product(**SECOND_OLD)
    bench.pipeline("maker", bench.block("last", "note(kwargs)\nraise ValueError('no numbers today')"))
    bench.consumer()
    bench.start(slots=1)
    run_id = bench.launch("consumer")

    failed = bench.finished(run_id)
    bench.retry(run_id)
    again = bench.finished(run_id)

    assert failed.error is not None
    assert "which makes the data product 'numbers', failed" in failed.error
    assert "no numbers today" in failed.error
    assert again.state is RunState.FAILED
    assert len(bench.all_of("maker")) == 2


def test_a_child_that_waits_for_a_product_gets_the_slot_that_its_parent_lends(bench: Products) -> None:
    bench.product(**HOUR)
    bench.consumer()
    body = """
trigger_pipeline('consumer', check_status=True, error_on_failure=True)
return get_global_data_product('numbers')
"""
    takes = bench.block("takes", "note(kwargs, f' {args[0][:2]}')", upstream=["calls"])
    bench.pipeline("parent", bench.block("calls", body), takes)
    bench.start(slots=1)

    run = bench.finished(bench.launch("parent"))

    assert (run.state, run.error) == (RunState.SUCCEEDED, None)
    assert bench.journal() == ["last", "consumer_takes [1, 2]", "takes [1, 2]"]


def test_millrace_run_runs_what_its_blocks_start(bench: Products) -> None:
    """Without a service: the run that makes the product, and one that nobody waits for."""
    bench.product(**HOUR)
    bench.pipeline("child", bench.block("work", "note(kwargs)"))
    goes = bench.block("goes", "trigger_pipeline('child')", upstream=["gives"])
    bench.pipeline("parent", bench.giving("gives"), goes)

    done = run_millrace("run", "parent", cwd=bench.root)

    assert done.returncode == 0, done.stdout + done.stderr
    assert bench.journal() == ["last", "work"]
    (parent, *_), shown = bench.listed("--pipeline", "parent"), bench.shown
    assert [run["pipeline"] for run in bench.listed("--parent", parent["id"])] == ["child", "maker"]
    assert "runs that its blocks started" in shown("runs", "show", parent["id"])
