"""Global data products with real worker processes: made once, used while they are fresh."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.store.values import RunState
from tests.parts.projects import BlockFile, write
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
            self.block("last", "note(kwargs)\nreturn [args[0], 2]", upstream=["first"]),
        )

    def consumer(self, name: str = "consumer", **overrides: Any) -> None:
        configuration = {"global_data_product": {"uuid": "numbers", **overrides}}
        gives = BlockFile(
            f"{name}_gives", "", type="global_data_product", keys={"configuration": configuration}
        )
        takes = self.block(f"{name}_takes", "note(kwargs, f' {args[0]}')", upstream=[f"{name}_gives"])
        self.pipeline(name, gives, takes)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Products]:
    bench = Products(tmp_path)
    yield bench
    bench.close()


def test_two_consumers_of_an_old_product_share_one_run_which_later_ones_use(bench: Products) -> None:
    """In one slot: who waits for the product is parked."""
    bench.product(**HOUR)
    bench.consumer("one")
    bench.consumer("two")
    bench.start(slots=1)

    runs = [bench.finished(run_id) for run_id in [bench.launch("one"), bench.launch("two")]]
    fresh = bench.finished(bench.launch("one"))

    assert [(run.state, run.error) for run in (*runs, fresh)] == [(RunState.SUCCEEDED, None)] * 3
    (made,) = bench.all_of("maker")
    assert made.parent_run_id == runs[0].id
    assert sorted(bench.journal()) == ["last", "one_takes [1, 2]", "one_takes [1, 2]", "two_takes [1, 2]"]
    # Woken by the end of the run, long before they would look by themselves.
    assert all((run.finished_at - run.created_at).total_seconds() < 9 for run in runs if run.finished_at)


def test_a_product_whose_outputs_are_gone_is_made_again(bench: Products) -> None:
    bench.product(**HOUR, settings="{first: {}, last: {}}")
    # More than fits into the row of the block, so that it lies in a file.
    bench.pipeline("maker", bench.block("first", "return 'x' * 9000"), bench.block("last", "return 2"))
    bench.consumer()
    bench.start(slots=1)
    bench.finished(bench.launch("consumer"))
    (made,) = bench.all_of("maker")
    assert bench.runtime is not None
    shutil.rmtree(bench.runtime.settings.checkpoints / made.id)

    run = bench.finished(bench.launch("consumer"))

    assert (run.state, run.error) == (RunState.SUCCEEDED, None)
    assert len(bench.all_of("maker")) == 2


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
from pipelines.blocks.product import get_global_data_product
trigger_pipeline('consumer', check_status=True, error_on_failure=True)
return get_global_data_product('numbers')
"""
    bench.pipeline("parent", bench.block("calls", body), bench.block("takes", "note(kwargs, str(args))",
                   upstream=["calls"]))  # fmt: skip
    bench.start(slots=1)

    run = bench.finished(bench.launch("parent"))

    assert (run.state, run.error) == (RunState.SUCCEEDED, None)
    assert bench.journal() == ["last", "consumer_takes [1, 2]", "takes([1, 2],)"]
