"""Blocks that give, take and pass on data frame by frame."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from pipelines.checkpoints import Checkpoints
from pipelines.model import Block, BlockType, RetryPolicy
from pipelines.run import BlockProgress
from pipelines.streams import Stream
from tests.parts.forked import forked
from tests.pipelines.running import Bench, python

LOAD = """
import pandas as pd

@data_loader
def load():
    for part in range(3):
        yield pd.DataFrame({"part": [part] * 4, "row": range(4)})

@test
def is_all_there(rows):
    assert rows.num_rows == 12
"""

BIG = """
import numpy as np, pandas as pd

@data_loader
def load():
    for part in range(3):
        yield pd.DataFrame({"part": np.full(2**19, part), "row": np.arange(2**19), "key": 1})
"""

DROPS_ODD = """
@transformer(stream=True)
def even(df, batch_number, *, logger):
    logger.info("batch %s", batch_number)
    found = df[df["row"] % 2 == 0]
    return found if len(found) else None
"""

PROFILE = "default:\n  DUCKDB_DATABASE: warehouse.duckdb\n"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    (tmp_path / "io_config.yaml").write_text(PROFILE)
    return Bench(tmp_path)


def stored(bench: Bench, block: str) -> Stream:
    (stream,) = bench.outputs(block)
    assert isinstance(stream, Stream)
    return stream


def rows_of(bench: Bench, query: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(bench.root / "warehouse.duckdb")) as warehouse:
        return warehouse.execute(query).fetchall()


def error_of(bench: Bench, block: str) -> str:
    return bench.listener.report(block).error or ""


def test_rows_and_frames_come_in_the_order_they_were_given(bench: Bench) -> None:
    source = """
import pandas as pd

@data_loader
def load():
    yield {"n": 1}
    yield {"n": 2}
    yield pd.DataFrame({"n": [3]})
    yield {"n": 4}
"""

    assert bench.run(python("load", source)).state == "succeeded"

    assert stored(bench, "load").to_pandas()["n"].tolist() == [1, 2, 3, 4]


def test_frames_pass_through_blocks_one_by_one(bench: Bench) -> None:
    export = """
from pipelines.io import DuckDB

@data_exporter
def export(rows):
    DuckDB.from_profile("default").export(rows, table_name="rows")
"""
    result = bench.run(python("load", BIG), python("even", DROPS_ODD, "load"), python("out", export, "even"))

    assert result.state == "succeeded", result.error
    assert rows_of(bench, "SELECT part, count(*), max(row) FROM rows GROUP BY part ORDER BY part") == [
        (part, 2**18, 2**19 - 2) for part in range(3)
    ]
    assert "batch 3" in bench.listener.text_of("even")
    assert [bench.listener.report(name).rows for name in ("load", "even", "out")] == [
        3 * 2**19, 3 * 2**18, 3 * 2**18,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "given",
    [
        "pa.Table.from_pylist([{'a': 1}, {'a': 2}]).to_reader()",
        "iter([{'a': 1}, {'a': 2}])",
        "iter([[{'a': 1}], [{'a': 2}]])",
        "pl.LazyFrame({'a': [1, 2]}).collect_batches()",
        "pd.read_csv(io.StringIO('a\\n1\\n2\\n'), chunksize=1)",
        "duckdb.connect().sql('SELECT unnest([1, 2]) AS a').to_arrow_reader()",
    ],
)
@pytest.mark.filterwarnings("ignore:.*collect_batches.* is considered unstable")
def test_whatever_gives_frames_or_rows_becomes_a_stream(bench: Bench, given: str) -> None:
    head = "import duckdb, io, pandas as pd, polars as pl, pyarrow as pa\n"
    result = bench.run(python("load", f"{head}@data_loader\ndef load():\n    return {given}\n"))

    assert result.state == "succeeded", result.error
    assert stored(bench, "load").to_pandas()["a"].tolist() == [1, 2]


def test_a_stream_may_be_one_of_several_outputs(bench: Bench) -> None:
    source = """
import pandas as pd

@data_loader
def load():
    return (pd.DataFrame({"a": [part]}) for part in range(3)), {"parts": 3}
"""
    bench.run(python("load", source))

    stream, facts = bench.outputs("load")
    assert (stream.num_rows, facts) == (3, {"parts": 3})


def test_an_error_after_some_frames_is_the_blocks_and_leaves_no_file(bench: Bench) -> None:
    source = LOAD.replace("range(3):", "range(3):\n        1 / (1 - part)")

    bench.run(python("load", source))

    assert error_of(bench, "load").startswith("data_loaders/load.py:7: ZeroDivisionError")
    assert list((bench.root / "checkpoints" / "run-1").iterdir()) == []


def test_a_test_that_fails_takes_the_stream_with_it(bench: Bench) -> None:
    bench.run(python("load", LOAD.replace("== 12", "== 13")))

    assert bench.listener.report("load").state == "failed"
    assert list((bench.root / "checkpoints" / "run-1").iterdir()) == []


@pytest.mark.parametrize(
    ("frames", "said"),
    [
        (
            "[pd.DataFrame({'a': [1]}), pd.DataFrame({'a': ['x']})]",
            "column 'a' is int64 in frame 1, and text",
        ),
        ("[pd.DataFrame({'a': [1]}), 7]", "gave frames, but a int as number 2"),
        ("[1, 2]", "returned a list_iterator, which gives its values only once"),
    ],
)
def test_frames_that_do_not_go_together_are_the_blocks_error(bench: Bench, frames: str, said: str) -> None:
    bench.run(python("load", f"import pandas as pd\n@data_loader\ndef load():\n    return iter({frames})\n"))

    assert error_of(bench, "load").startswith("data_loaders/load.py:2: block 'load'")
    assert said in error_of(bench, "load")


@pytest.mark.parametrize(
    ("form", "kind"), [("True", "DataFrame"), ("'arrow'", "Table"), ("'polars'", "DataFrame")]
)
def test_a_function_chooses_its_form_of_frames(bench: Bench, form: str, kind: str) -> None:
    source = f"""
@transformer(stream={form})
def kind(frame, others, more):
    print(type(frame).__module__.partition(".")[0], type(frame).__name__, others)
    more.append(1)
    return {{"rows": [len(frame)], "more": [len(more)]}}
"""
    other = "@data_loader\ndef load():\n    return {'a': 1}\n"
    more = "@data_loader\ndef load():\n    return [[0]]\n"
    bench.run(
        python("load", BIG), python("other", other), python("more", more),
        python("kind", source, "load", "other", "more"),
    )  # fmt: skip

    assert error_of(bench, "kind") == ""
    assert f"{kind} {{'a': 1}}" in bench.listener.text_of("kind")
    found = stored(bench, "kind").to_pandas()
    assert found["rows"].sum() == 3 * 2**19
    assert set(found["more"]) == {2}  # each call has its own


def test_a_whole_frame_is_cut_into_batches(bench: Bench) -> None:
    whole = BIG.replace("        yield", "        pass\n    return")

    bench.run(python("load", whole), python("even", DROPS_ODD, "load"))

    assert bench.listener.report("even").rows == 2**18
    assert "batch 2" in bench.listener.text_of("even")


def test_a_stream_without_rows_calls_the_function_once_so_that_columns_are_known(bench: Bench) -> None:
    empty = LOAD.replace("range(3)", "range(1)").replace("range(4)", "range(0)").replace("* 4", "* 0")
    same = "@transformer(stream=True)\ndef same(df):\n    return df.assign(new=1)\n"

    bench.run(python("load", empty.partition("@test")[0]), python("same", same, "load"))

    assert stored(bench, "same").schema.names == ["part", "row", "new"]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (
            "@data_loader(stream=True)\ndef f():\n    return 1\n",
            "it is for transformers, exporters and custom",
        ),
        ("@transformer(stream='spark')\ndef f(a):\n    return a\n", "stream='spark' is not known"),
        ("@transformer(stream=True)\ndef f(a):\n    return a\n", "block, 'one', returned a int"),
        ("@custom(stream=True)\ndef f(a):\n    return a\n", "returned a list with a NoneType in it"),
    ],
)
def test_where_nothing_can_be_streamed_it_is_told(bench: Bench, source: str, said: str) -> None:
    upstream = [] if "data_loader" in source else ["two" if "custom" in source else "one"]
    bench.run(
        python("one", "@data_loader\ndef one():\n    return 1\n"),
        python("two", "@data_loader\ndef two():\n    return None, 2\n"),
        python("f", source, *upstream),
    )

    assert said in error_of(bench, "f")


def test_what_children_gave_is_read_batch_by_batch(bench: Bench) -> None:
    items = "@data_loader\ndef f():\n    return [[1, 2]]\n"
    frames = (
        "import pandas as pd\n@transformer\ndef f(item):\n"
        "    for row in range(2):\n        yield pd.DataFrame({'item': [item], 'row': [row]})\n"
    )
    take = "@custom(stream=True)\ndef f(df):\n    print(df['item'].tolist())\n    return df\n"

    bench.run(
        python("d", items, configuration={"dynamic": True}),
        python("c", frames, "d", configuration={"reduce_output": True}),
        python("end", take, "c"),
    )

    assert bench.listener.text_of("end") == "[1, 1]\n[2, 2]"
    assert bench.listener.report("end").rows == 4


def test_what_is_no_frame_for_a_batch_is_told_with_the_batch(bench: Bench) -> None:
    source = "@transformer(stream=True)\ndef f(df, batch_number):\n    return df if batch_number < 2 else 5\n"
    bench.run(python("load", BIG), python("f", source, "load"))

    assert "block 'f' is called for each batch, and returned a int for batch 2" in error_of(bench, "f")


def test_a_missing_return_does_not_lose_all_rows_in_silence(bench: Bench) -> None:
    bench.run(
        python("load", BIG), python("f", "@transformer(stream=True)\ndef f(df):\n    df['new'] = 1\n", "load")
    )

    assert bench.listener.report("f").rows == 0
    assert "is a `return` missing?" in bench.listener.text_of("f")


PER_BATCH = """
from pathlib import Path
from pipelines.io import DuckDB

@data_exporter(stream=True)
def export(df, batch_number, *, repo_path):
    DuckDB.from_profile("default").export(df, table_name="rows", if_exists="replace")
    stumble = Path(repo_path, "stumbled")
    if batch_number == 2 and not stumble.exists():
        stumble.touch()
        raise RuntimeError("the line went down")
"""


def test_an_exporter_that_stumbles_between_batches_writes_each_of_them_once(bench: Bench) -> None:
    with duckdb.connect(str(bench.root / "warehouse.duckdb")) as warehouse:
        warehouse.execute(
            "CREATE TABLE rows AS SELECT 99::BIGINT AS part, 1::BIGINT AS row, 1::BIGINT AS key"
        )

    result = bench.run(
        python("load", BIG),
        python("out", PER_BATCH, "load", retry=RetryPolicy(retries=1, delay_seconds=0, jitter=False)),
    )

    assert result.state == "succeeded", result.error
    assert bench.listener.report("out").attempt == 2
    assert rows_of(bench, "SELECT part, count(*) FROM rows GROUP BY part ORDER BY part") == [
        (part, 2**19) for part in range(3)
    ]
    assert bench.listener.report("out").rows == 3 * 2**19


def test_a_sql_block_reads_a_stream_as_a_table(bench: Bench) -> None:
    query = (
        "SELECT a.part, count(*) AS n FROM {{ df_1 }} a JOIN (SELECT max(part) AS part FROM {{ df_1 }}) b "
        "ON a.part = b.part GROUP BY 1"
    )
    settings = {"data_provider": "duckdb", "use_raw_sql": True}
    block = Block("sums", BlockType.TRANSFORMER, "sql", "transformers/sums.sql", ("load",), settings)

    result = bench.run(python("load", LOAD), (block, query))

    assert result.state == "succeeded", result.error
    assert bench.outputs("sums")[0].to_dict("records") == [{"part": 2, "n": 4}]


def test_a_sql_block_says_which_stream_has_no_columns(bench: Bench) -> None:
    settings = {"data_provider": "duckdb", "use_raw_sql": True}
    block = Block("sums", BlockType.TRANSFORMER, "sql", "transformers/sums.sql", ("load",), settings)

    bench.run(
        python("load", "@data_loader\ndef f():\n    return iter([])\n"), (block, "SELECT * FROM {{ df_1 }}")
    )

    assert "{{ df_1 }}, the output of block 'load': the stream has no columns" in error_of(bench, "sums")


def test_a_stream_that_is_passed_on_is_stored_once(bench: Bench) -> None:
    bench.run(python("load", LOAD), python("same", "@custom\ndef same(rows):\n    return rows\n", "load"))

    assert stored(bench, "same").path == stored(bench, "load").path
    assert bench.listener.report("same").rows == 12


def test_a_stream_of_another_run_gets_a_file_in_this_one(bench: Bench) -> None:
    bench.run(python("load", LOAD))

    manifest = bench.checkpoints.save("run-2", "again", 1, (stored(bench, "load"),))
    bench.checkpoints.discard("run-1")

    assert bench.checkpoints.load(manifest)[0].num_rows == 12


def test_a_resumed_run_reads_what_was_stored(bench: Bench) -> None:
    spec = bench.spec(python("load", LOAD), python("even", DROPS_ODD, "load"), selection=("load",))
    bench.execute(spec)

    bench.run(
        python("load", "raise AssertionError"), python("even", DROPS_ODD, "load"),
        progress=bench.listener.progress(),
    )  # fmt: skip

    assert stored(bench, "even").num_rows == 6


def test_a_block_killed_among_its_frames_runs_again(bench: Bench) -> None:
    kills = BIG.replace("range(3):", "range(3):\n        import os; part == 2 and os.kill(os.getpid(), 9)")
    process = forked(_run, bench.root, kills)
    process.join(60)
    folder = bench.root / "checkpoints" / "run-1"
    (half,) = folder.iterdir()

    bench.run(python("load", LOAD), progress={"load": BlockProgress("running", 1)})

    assert process.exitcode == -signal.SIGKILL
    assert half.suffix == ".tmp"
    assert list(folder.iterdir()) == [stored(bench, "load").path]
    assert bench.listener.report("load").attempt == 2


def _run(root: Path, source: str) -> None:
    Bench(root).run(python("load", source))


FRAMES = {
    "batch": pa.record_batch({"a": [1, 2], "b": [[1], None]}),
    "empty batch": pa.RecordBatch.from_pylist([], schema=pa.schema([("a", pa.int8())])),
    "polars": pl.DataFrame(
        {"a": pl.Series(["x", "y"], dtype=pl.Enum(["x", "y"])), "b": pl.Series([1, None], dtype=pl.UInt8)}
    ),
    "lazy": pl.LazyFrame({"a": pl.Series(["x", "y"], dtype=pl.Categorical)}),
}


@pytest.mark.parametrize("kind", FRAMES)
def test_frames_of_arrow_and_polars_come_back_as_they_were(tmp_path: Path, kind: str) -> None:
    checkpoints = Checkpoints(tmp_path)

    (loaded,) = checkpoints.load(checkpoints.save("run", "block", 1, (FRAMES[kind],)))

    assert type(loaded) is type(FRAMES[kind])
    if isinstance(loaded, pl.LazyFrame):
        assert loaded.collect().equals(FRAMES[kind].collect())
        assert loaded.collect_schema() == FRAMES[kind].collect_schema()
    else:
        assert loaded.equals(FRAMES[kind])


def test_a_lazy_frame_is_computed_once_in_its_block(bench: Bench) -> None:
    source = """
import polars as pl

@data_loader
def load():
    return pl.LazyFrame({"a": [1, 2]}).map_batches(lambda frame: print("computed") or frame)
"""
    reads = "@custom\ndef reads(lazy):\n    return int(lazy.collect()['a'].sum())\n"

    bench.run(python("load", source), python("one", reads, "load"), python("two", reads, "load"))

    assert bench.listener.text_of("load") == "computed"
    assert bench.outputs("two") == (3,)


def test_pandas_is_what_a_stream_gives_a_loop(bench: Bench) -> None:
    bench.run(python("load", LOAD))

    frames = list(stored(bench, "load"))

    assert all(isinstance(frame, pd.DataFrame) for frame in frames)
    assert sum(map(len, frames)) == 12
